# Tab completion of ./inv and inv in fish: tasks, their options, and host names after --host.
#
#   ./inv --print-completion-script fish | source     now, or in ~/.config/fish/config.fish (with the full path of inv)
#
# No Python is started: the tasks are read from .setup/words, which ./inv keeps up to date, and the hosts are files.
# Only names that fit their pattern are offered, so that a file's name can't have any effect.

# Whether a folder is the project that this script is for, or a project of this user or of root that no other user
# can write to.
function __swarm_inv_trusted
    test -e $argv[1]/tasks.py; or return
    test (path resolve -- $argv[1]) = (path resolve -- @ROOT@); and return
    set -l found (command stat -L -c '%u %a' -- $argv[1] 2>/dev/null | string split ' ')
    contains -- "$found[1]" 0 (command id -u); and string match -qr '[0145]$' -- "$found[2]"
end

function __swarm_inv_root
    set -l program (string replace -r '^~' $HOME -- $argv[1])
    set -l folder $PWD
    if string match -q '*/*' -- $program
        set folder (string replace -r '/[^/]*$' '' -- $program)
    else
        while test -n "$folder"; and not test -e $folder/tasks.py -a -e $folder/inv
            set folder (string replace -r '/[^/]*$' '' -- $folder)
        end
    end
    if test -n "$folder"; and __swarm_inv_trusted $folder
        printf '%s\n' $folder
    else
        printf '%s\n' @ROOT@
    end
end

function __swarm_inv
    set -l words (commandline -opc)
    set -l value (commandline -ct)
    set -l root (__swarm_inv_root $words[1])
    test -r $root/.setup/words; or return
    set -l names
    set -l flags
    set -l helps
    while read -l -d '|' name flag help
        string match -qr '^[a-z0-9._-]+$' -- $name; and string match -qr '^[a-zA-Z0-9 =-]*$' -- $flag; or continue
        set -a names $name
        set -a flags $flag
        set -a helps $help
    end <$root/.setup/words

    set -l current 1
    set -l previous ''
    for word in $words[2..]
        test "$word" = --; and return
        if not contains -- "$previous=" (string split ' ' -- $flags[$current])
            set -l index (contains -i -- $word $names); and set current $index
        end
        set previous $word
    end
    set -l typed $value
    if string match -q -- '--host=*' $value
        set previous --host
        set typed (string replace -- --host= '' $value)
    end

    if test "$previous" = --host
        set -l folder $root/hosts
        set -q SWARM_HOSTS; and test -n "$SWARM_HOSTS"; and set folder $SWARM_HOSTS
        set -l before (string match -r '^.*,' -- $value)
        test -z "$before"; and string match -q -- '--host=*' $value; and set before --host=
        set -l chosen (string split , -- $typed)
        for file in $folder/*.yaml
            set -l name (string replace -r '.*/(.*)\.yaml$' '$1' -- $file)
            string match -qr '^[a-z0-9_-]+$' -- $name; or continue
            contains -- $name $chosen; or printf '%s\n' "$before$name"
        end
        string match -q '*,*' -- $typed; or printf '%s\n' "$before"all
    else if contains -- "$previous=" (string split ' ' -- $flags[$current]) (string split ' ' -- $flags[1])
        __fish_complete_path $value
    else if string match -q -- '-*' $value
        string replace -r '=$' '' -- (string split ' ' -- $flags[$current])
    else
        for index in (seq 2 (count $names))
            printf '%s\t%s\n' $names[$index] $helps[$index]
        end
    end
end

complete -c inv -f -a '(__swarm_inv)'
