//! Text and actions to tokens, with Go's trimming of spaces around `{{-` and `-}}`.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text outside actions.
    Text,
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// A space inside an action; separates `.A .B` from `.A.B`.
    Space,
    /// `.Name`
    Field,
    /// `.`
    Dot,
    /// `$name` or `$`
    Variable,
    /// A function's name or a keyword.
    Word,
    /// `"…"` or `` `…` ``, with its quotes.
    Text1,
    /// `'x'`
    Char,
    /// A number.
    Number,
    /// `|`
    Pipe,
    /// `(`
    Left,
    /// `)`
    Right,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// The end.
    End,
}

/// One token: what, where (byte offset), and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: usize,
    pub(super) text: String,
}

/// All tokens, or the position and Go's text of what is wrong.
pub(super) fn lex(source: &str) -> Result<Vec<Token>, (usize, String)> {
    let mut lexer = Lexer { source, at: 0, tokens: Vec::new(), depth: 0 };
    lexer.run()?;
    let end = source.len();
    lexer.push(Kind::End, end, "");
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    tokens: Vec<Token>,
    depth: usize,
}

impl<'s> Lexer<'s> {
    fn push(&mut self, kind: Kind, at: usize, text: &str) {
        self.tokens.push(Token { kind, at, text: text.to_owned() });
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn run(&mut self) -> Result<(), (usize, String)> {
        let mut trim_next = false;
        loop {
            let rest = self.rest();
            let open = rest.find("{{");
            let text = &rest[..open.unwrap_or(rest.len())];
            let trims_before = open.is_some_and(|at| is_trim_open(&rest[at + 2..]));
            let mut shown = if trim_next { text.trim_start_matches(is_space) } else { text };
            if trims_before {
                shown = shown.trim_end_matches(is_space);
            }
            if !shown.is_empty() {
                self.push(Kind::Text, self.at, shown);
            }
            let Some(open) = open else { return Ok(()) };
            self.at += open + 2;
            let opened = self.at - 2;
            if trims_before {
                self.at += 1;
            }
            if self.rest().trim_start_matches(is_space).starts_with("/*") {
                trim_next = self.comment()?;
                continue;
            }
            self.push(Kind::Open, opened, "{{");
            trim_next = self.action(opened)?;
        }
    }

    /// Skips a comment; whether it trims what follows.
    fn comment(&mut self) -> Result<bool, (usize, String)> {
        let Some(end) = self.rest().find("*/") else {
            return Err((self.at, "unclosed comment".to_owned()));
        };
        self.at += end + 2;
        let rest = self.rest();
        for (close, trims) in [(" -}}", true), ("}}", false)] {
            if rest.starts_with(close) {
                self.at += close.len();
                return Ok(trims);
            }
        }
        Err((self.at, "comment ends before closing delimiter".to_owned()))
    }

    /// One action up to its `}}`; whether it trims what follows.
    fn action(&mut self, opened: usize) -> Result<bool, (usize, String)> {
        self.depth = 0;
        loop {
            let rest = self.rest();
            for (close, trims) in [(" -}}", true), ("\t-}}", true), ("\n-}}", true), ("}}", false)]
            {
                if rest.starts_with(close) {
                    if self.depth > 0 {
                        return Err((self.at, "unclosed left paren".to_owned()));
                    }
                    self.push(Kind::Close, self.at, "}}");
                    self.at += close.len();
                    return Ok(trims);
                }
            }
            let Some(next) = rest.chars().next() else {
                return Err((opened, "unclosed action".to_owned()));
            };
            self.token(next)?;
        }
    }

    fn token(&mut self, next: char) -> Result<(), (usize, String)> {
        let rest = self.rest();
        let start = self.at;
        let take = |test: &dyn Fn(char) -> bool, from: usize| {
            from + rest[from..].find(|c: char| !test(c)).unwrap_or(rest.len() - from)
        };
        let (kind, length) = match next {
            c if is_space(c) => (Kind::Space, take(&is_space, 0)),
            '"' => (Kind::Text1, self.quoted('"')?),
            '`' => (Kind::Text1, self.raw()?),
            '\'' => (Kind::Char, self.quoted('\'')?),
            '|' => (Kind::Pipe, 1),
            ',' => (Kind::Comma, 1),
            '=' => (Kind::Assign, 1),
            ':' if rest.starts_with(":=") => (Kind::Declare, 2),
            ':' => return Err((start, "expected :=".to_owned())),
            '(' => {
                self.depth += 1;
                (Kind::Left, 1)
            }
            ')' if self.depth == 0 => return Err((start, "unexpected right paren".to_owned())),
            ')' => {
                self.depth -= 1;
                (Kind::Right, 1)
            }
            '$' => (Kind::Variable, take(&is_name, 1)),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                (Kind::Number, take(&is_number, 0))
            }
            '.' => match take(&is_name, 1) {
                1 => (Kind::Dot, 1),
                length => (Kind::Field, length),
            },
            '+' | '-' | '0'..='9' => (Kind::Number, take(&is_number, 1)),
            c if is_name(c) => (Kind::Word, take(&is_name, 0)),
            c => {
                let shown = format!("unrecognized character in action: U+{:04X} '{c}'", c as u32);
                return Err((start, shown));
            }
        };
        let text = &rest[..length];
        self.push(kind, start, text);
        self.at += length;
        Ok(())
    }

    fn quoted(&self, quote: char) -> Result<usize, (usize, String)> {
        let what = if quote == '"' {
            "unterminated quoted string"
        } else {
            "unterminated character constant"
        };
        let mut escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => return Ok(at + 1),
                _ => {}
            }
        }
        Err((self.at, what.to_owned()))
    }

    fn raw(&self) -> Result<usize, (usize, String)> {
        let end = self.rest()[1..].find('`');
        end.map(|at| at + 2).ok_or_else(|| (self.at, "unterminated raw quoted string".to_owned()))
    }
}

fn is_trim_open(after: &str) -> bool {
    after.starts_with('-') && after[1..].starts_with(is_space)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_number(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-')
}
