#compdef PROGRAM
_PROGRAM() {
    local line directive=0
    local -a offers
    while IFS= read -r line; do
        if [[ $line == :<-> ]]; then
            directive=${line#:}
        else
            offers+=("${${line%%$'\t'*}//:/\\:}${${line#*$'\t'}:+:${line#*$'\t'}}")
        fi
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#offers} )); then
        _describe 'PROGRAM' offers
    elif [[ $directive == 0 ]]; then
        _files
    fi
}
compdef _PROGRAM PROGRAM
