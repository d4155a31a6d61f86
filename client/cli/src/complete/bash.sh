# bash completion for PROGRAM
__PROGRAM_complete() {
    local words=() rest=${COMP_LINE:0:COMP_POINT} word line directive mark part cut= i
    COMPREPLY=()
    # bash splits at colons and equal signs, too; what no space parts is one word.
    rest=${rest#"${COMP_WORDS[0]}"}
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $i == 1 || $rest == [[:space:]]* ]]; then
            words+=("$word")
        else
            words[-1]+=$word
        fi
        rest=${rest#"${rest%%[![:space:]]*}"}
        rest=${rest#"$word"}
    done
    while IFS= read -r line; do
        if [[ $line =~ ^:[0-9]+$ ]]; then
            directive=${line#:}
        else
            COMPREPLY+=("${line%%$'\t'*}")
        fi
    done < <("${COMP_WORDS[0]}" __completeNoDesc "${words[@]}" 2>/dev/null)
    if [[ ${directive:-0} == 0 && ${#COMPREPLY[@]} == 0 ]]; then
        compopt -o default 2>/dev/null
    fi
    # Only what follows the last of them is put in place.
    word=${words[-1]}
    for mark in : =; do
        if [[ $COMP_WORDBREAKS == *"$mark"* && $word == *"$mark"* ]]; then
            part=${word%"$mark"*}$mark
            ((${#part} > ${#cut})) && cut=$part
        fi
    done
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -F __PROGRAM_complete PROGRAM
