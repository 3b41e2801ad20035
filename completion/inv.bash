# Tab completion of ./inv and inv in bash: tasks, their options, and host names after --host.
#
#   eval "$(./inv --print-completion-script bash)"     now, or as a line of ~/.bashrc (with the full path of inv)
#
# No Python is started: the tasks are read from .setup/words, which ./inv keeps up to date, and the hosts are files.
# Nothing that is read is ever expanded: compgen -W, for one, would run the $(...) in a file's name.

# Print the project's folder: the one above the current folder or before the command's last slash, if it is trustworthy.
_swarm_inv_root() {
    local folder=$PWD
    if [[ $1 == */* ]]; then
        folder=${1%/*}
        folder=${folder:-/}
    else
        while [[ -n $folder && ! ( -e $folder/tasks.py && -e $folder/inv ) ]]; do folder=${folder%/*}; done
    fi
    if [[ -n $folder && -e $folder/tasks.py && $folder/ -ef @ROOT@/ ]] || _swarm_inv_trusted "$folder"; then
        printf '%s' "$folder"
    else
        printf '%s' @ROOT@
    fi
}

# Whether a folder is a project of this user or of root, and no other user can write to it.
_swarm_inv_trusted() {
    local owner mode
    [[ -n $1 && -e $1/tasks.py ]] || return
    read -r owner mode < <(command -p stat -L -c '%u %a' -- "$1" 2>/dev/null) || return
    [[ $owner == "$EUID" || $owner == 0 ]] && (((8#$mode & 2) == 0))
}

# Offer those of the words given that begin with $1.
_swarm_inv_offer() {
    local typed=$1 word
    shift
    for word; do
        if [[ $word == "$typed"* ]]; then COMPREPLY+=("$word"); fi
    done
}

_swarm_inv() {
    local root name flags current=- previous='' word index value=${COMP_WORDS[COMP_CWORD]}
    local names=() hosts=() LC_ALL=C
    local -A flags_of=()
    COMPREPLY=()
    root=$(_swarm_inv_root "${COMP_WORDS[0]/#\~/$HOME}")
    [[ -r $root/.setup/words ]] || return
    while IFS='|' read -r name flags _; do
        [[ $name =~ ^[a-z0-9._-]+$ && $flags =~ ^[a-zA-Z0-9\ =-]*$ ]] || continue
        flags_of[$name]=$flags
        [[ $name == - ]] || names+=("$name")
    done <"$root/.setup/words"

    # Find the task in which the cursor stands, and the option before the cursor. Bash splits --host=zap at the "=".
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ $word == -- ]]; then return; fi
        if [[ $word == = ]]; then continue; fi
        if [[ " ${flags_of[$current]} " != *" $previous= "* &&
            $word =~ ^[a-z0-9._-]+$ && -n ${flags_of[$word]+known} ]]; then
            current=$word
        fi
        previous=$word
    done
    if [[ $value == = ]]; then value=''; fi

    if [[ $previous == --host ]]; then
        local before='' file
        if [[ $value == *,* ]]; then before=${value%,*},; fi
        for file in "${SWARM_HOSTS:-$root/hosts}"/*.yaml; do
            file=${file##*/}
            file=${file%.yaml}
            if [[ $file =~ ^[a-z0-9_-]+$ && ,$before != *",$file,"* ]]; then hosts+=("$before$file"); fi
        done
        if [[ -z $before ]]; then hosts+=(all); fi
        _swarm_inv_offer "$value" "${hosts[@]}"
    elif [[ " ${flags_of[$current]} ${flags_of[-]} " == *" $previous= "* ]]; then
        return # a value: a file's name, if anything
    elif [[ $value == -* ]]; then
        read -ra names <<<"${flags_of[$current]//=/}"
        _swarm_inv_offer "$value" "${names[@]}"
    else
        _swarm_inv_offer "$value" "${names[@]}"
    fi
}

complete -o default -F _swarm_inv inv
