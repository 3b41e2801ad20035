# Tab completion of ./inv and inv in bash: tasks, their options, and host names after --host.
#
#   eval "$(./inv --print-completion-script bash)"     now, or as a line of ~/.bashrc (with the full path of inv)
#
# No Python is started: the tasks are read from .setup/words, which ./inv keeps up to date, and the hosts are files.

_swarm_inv_root() {
    local folder=$PWD
    if [[ $1 == */* && -e ${1%/*}/tasks.py ]]; then
        printf '%s' "${1%/*}"
        return
    fi
    if [[ $1 != */* ]]; then
        while [[ -n $folder ]]; do
            if [[ -e $folder/tasks.py && -e $folder/inv ]]; then
                printf '%s' "$folder"
                return
            fi
            folder=${folder%/*}
        done
    fi
    printf '%s' @ROOT@
}

_swarm_inv() {
    local root name flags current=- known='' previous='' word index value=${COMP_WORDS[COMP_CWORD]}
    local -A flags_of=()
    COMPREPLY=()
    root=$(_swarm_inv_root "${COMP_WORDS[0]/#\~/$HOME}")
    [[ -r $root/.setup/words ]] || return
    while IFS='|' read -r name flags _; do
        flags_of[$name]=$flags
        [[ $name == - ]] || known+=" $name"
    done <"$root/.setup/words"

    # The task in which the cursor stands, and the option before the cursor; bash splits --host=zap at the "=".
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ $word == -- ]]; then return; fi
        if [[ $word == = ]]; then continue; fi
        if [[ " ${flags_of[$current]} " != *" $previous= "* && -n ${flags_of[$word]+known} ]]; then current=$word; fi
        previous=$word
    done
    if [[ $value == = ]]; then value=''; fi

    if [[ $previous == --host ]]; then
        local before='' file
        if [[ $value == *,* ]]; then before=${value%,*},; fi
        for file in "${SWARM_HOSTS:-$root/hosts}"/*.yaml; do
            file=${file##*/}
            file=${file%.yaml}
            if [[ $file != '*' && ,$before != *",$file,"* ]]; then COMPREPLY+=("$before$file"); fi
        done
        if [[ -z $before ]]; then COMPREPLY+=(all); fi
        mapfile -t COMPREPLY < <(compgen -W "${COMPREPLY[*]}" -- "$value")
    elif [[ " ${flags_of[$current]} ${flags_of[-]} " == *" $previous= "* ]]; then
        return # a value: a file's name, if anything
    elif [[ $value == -* ]]; then
        flags=${flags_of[$current]}
        mapfile -t COMPREPLY < <(compgen -W "${flags//=/}" -- "$value")
    else
        mapfile -t COMPREPLY < <(compgen -W "$known" -- "$value")
    fi
}

complete -o default -F _swarm_inv inv
