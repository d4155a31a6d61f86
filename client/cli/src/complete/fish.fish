# fish completion for PROGRAM
function __PROGRAM_complete
    set -l words (commandline -opc) (commandline -ct)
    PROGRAM __complete $words[2..-1] 2>/dev/null | string match -v -r '^:[0-9]+$'
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
