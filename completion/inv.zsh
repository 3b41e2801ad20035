# Tab completion of ./inv and inv in zsh: tasks, their options, and host names after --host.
#
#   eval "$(./inv --print-completion-script zsh)"     now, or as a line of ~/.zshrc after compinit
#                                                 (with the full path of inv)
#
# No Python is started: the tasks are read from .setup/words, which ./inv keeps up to date, and the hosts are files.
# Only names that fit their pattern are offered, so that a file's name can't have any effect.

# Whether a folder is the project that this script is for, or a project of this user or of root that no other user
# can write to.
_swarm_inv_trusted() {
    [[ -e $1/tasks.py ]] || return 1
    if [[ $1/ -ef @ROOT@/ ]]; then return 0; fi
    local owner mode
    command -p stat -L -c '%u %a' -- $1 2>/dev/null | read owner mode || return 1
    [[ ( $owner == $EUID || $owner == 0 ) && $mode == *[0145] ]]
}

_swarm_inv() {
    setopt localoptions extendedglob
    local root=@ROOT@ program=${(Q)words[1]} folder=$PWD line name rest current=- previous='' word
    local -A flags_of
    local -a tasks names chosen
    program=${program/#\~/$HOME}
    if [[ $program == */* ]]; then
        folder=${program:h}
    else
        while [[ $folder != / && ! ( -e $folder/tasks.py && -e $folder/inv ) ]]; do folder=${folder:h}; done
    fi
    if _swarm_inv_trusted $folder; then root=$folder; fi
    [[ -r $root/.setup/words ]] || return 1
    for line in ${(f)"$(<$root/.setup/words)"}; do
        name=${line%%|*} rest=${line#*|}
        [[ $name == [a-z0-9._-]## && ${rest%%|*} == [a-zA-Z0-9\ =-]# ]] || continue
        flags_of[$name]=${rest%%|*}
        if [[ $name != - ]]; then tasks+=("$name:${rest#*|}"); fi
    done

    for word in ${words[2,CURRENT-1]}; do
        if [[ $word == -- ]]; then _default; return; fi
        if [[ " $flags_of[$current] " != *" $previous= "* &&
            $word == [a-z0-9._-]## && -n ${flags_of[$word]+known} ]]; then current=$word; fi
        previous=$word
    done
    if [[ $words[CURRENT] == --host=* ]]; then
        previous=--host
        compset -P '--host='
    fi

    if [[ $previous == --host ]]; then
        compset -P '*,'
        chosen=(${(s:,:)IPREFIX#--host=})
        names=(${SWARM_HOSTS:-$root/hosts}/*.yaml(N:t:r))
        names=(${(M)names:#[a-z0-9_-]##})
        if [[ -z $chosen ]]; then names+=(all); fi
        compadd -X host -- ${names:|chosen}
    elif [[ " $flags_of[$current] $flags_of[-] " == *" $previous= "* ]]; then
        _files
    elif [[ $words[CURRENT] == -* ]]; then
        names=(${(s: :)flags_of[$current]})
        compadd -X option -- ${names%=}
    else
        _describe task tasks
    fi
}

compdef _swarm_inv inv
