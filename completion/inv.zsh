# Tab completion of ./inv and inv in zsh: tasks, their options, and host names after --host.
#
#   eval "$(./inv --print-completion-script zsh)"     now, or as a line of ~/.zshrc after compinit (with the full path of inv)
#
# No Python is started: the tasks are read from .setup/words, which ./inv keeps up to date, and the hosts are files.

_swarm_inv() {
    local root=@ROOT@ program=${(Q)words[1]} folder=$PWD line name rest current=- previous='' word
    local -A flags_of
    local -a tasks names chosen
    program=${program/#\~/$HOME}
    if [[ $program == */* ]]; then
        if [[ -e ${program:h}/tasks.py ]]; then root=${program:h}; fi
    else
        while [[ $folder != / ]]; do
            if [[ -e $folder/tasks.py && -e $folder/inv ]]; then root=$folder; break; fi
            folder=${folder:h}
        done
    fi
    [[ -r $root/.setup/words ]] || return 1
    for line in ${(f)"$(<$root/.setup/words)"}; do
        name=${line%%|*} rest=${line#*|}
        flags_of[$name]=${rest%%|*}
        if [[ $name != - ]]; then tasks+=("$name:${rest#*|}"); fi
    done

    for word in ${words[2,CURRENT-1]}; do
        if [[ $word == -- ]]; then _default; return; fi
        if [[ " $flags_of[$current] " != *" $previous= "* && -n ${flags_of[$word]+known} ]]; then current=$word; fi
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
