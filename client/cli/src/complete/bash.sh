# bash completion for PROGRAM
__PROGRAM_complete() {
    local words line directive
    COMPREPLY=()
    words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    # bash splits at colons and equal signs; put the typed word together again.
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local cur prev words_ cword
        _get_comp_words_by_ref -n "=:" cur prev words_ cword 2>/dev/null && true
    fi
    while IFS= read -r line; do
        if [[ $line == :* && $line =~ ^:[0-9]+$ ]]; then
            directive=${line#:}
        else
            COMPREPLY+=("${line%%$'\t'*}")
        fi
    done < <("${COMP_WORDS[0]}" __completeNoDesc "${words[@]}" 2>/dev/null)
    if [[ ${directive:-0} == 0 && ${#COMPREPLY[@]} == 0 ]]; then
        compopt -o default 2>/dev/null
    fi
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "${COMP_WORDS[COMP_CWORD]}"
    fi
}
complete -F __PROGRAM_complete PROGRAM
