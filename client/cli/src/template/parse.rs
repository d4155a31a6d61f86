//! Tokens to a tree. What Go's parser refuses is refused with its text.

use std::collections::BTreeMap;

use super::functions::is_function;
use super::lex::{Kind, Token, lex};
use super::literal::{number, unquote};

/// A whole template: the main list and what `define` named.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) main: List,
    pub(super) named: BTreeMap<String, List>,
}

pub(super) type List = Vec<Node>;

/// One step of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Pipe, List, List),
    With(Pipe, List, List),
    Range(Pipe, List, List),
    Template { at: usize, name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// Commands joined by `|`, with the variables that take the result.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) at: usize,
    /// Its text, for errors.
    pub(super) shown: String,
    pub(super) words: Vec<Operand>,
}

/// A value in a command.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) shown: String,
    pub(super) term: Term,
    /// `.A.B` behind the term.
    pub(super) chain: Vec<String>,
}

/// Where an operand's value comes from.
#[derive(Debug)]
pub(super) enum Term {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Variable(String),
    Function(String),
    Pipe(Pipe),
}

impl Tree {
    /// Names of fields read directly from the data.
    pub(super) fn fields_used(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for list in std::iter::once(&self.main).chain(self.named.values()) {
            for node in list {
                node.collect_fields(&mut found);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Node {
    fn collect_fields<'t>(&'t self, into: &mut Vec<&'t str>) {
        match self {
            Node::Action(pipe) => pipe.collect_fields(into),
            Node::If(pipe, yes, no) | Node::With(pipe, yes, no) | Node::Range(pipe, yes, no) => {
                pipe.collect_fields(into);
                yes.iter().chain(no).for_each(|node| node.collect_fields(into));
            }
            Node::Template { pipe, .. } => pipe.iter().for_each(|pipe| pipe.collect_fields(into)),
            Node::Text(_) | Node::Break | Node::Continue => {}
        }
    }
}

impl Pipe {
    fn collect_fields<'t>(&'t self, into: &mut Vec<&'t str>) {
        for operand in self.commands.iter().flat_map(|command| &command.words) {
            match &operand.term {
                Term::Dot => into.extend(operand.chain.first().map(String::as_str)),
                Term::Variable(name) if name == "$" => {
                    into.extend(operand.chain.first().map(String::as_str));
                }
                Term::Pipe(pipe) => pipe.collect_fields(into),
                _ => {}
            }
        }
    }
}

/// Parses; the error carries Go's prefix `:LINE: `.
pub(super) fn parse(source: &str) -> Result<Tree, String> {
    let fail = |(at, why): (usize, String)| {
        let line = source[..at.min(source.len())].matches('\n').count() + 1;
        format!(":{line}: {why}")
    };
    let tokens = lex(source).map_err(fail)?;
    let mut parser =
        Parser { tokens, at: 0, named: BTreeMap::new(), variables: vec!["$".to_owned()], loops: 0 };
    let (main, stop) = parser.list().map_err(fail)?;
    match stop {
        Stop::End => Ok(Tree { main, named: parser.named }),
        Stop::Else(at) => Err(fail((at, "unexpected {{else}}".to_owned()))),
        Stop::Close(at) => Err(fail((at, "unexpected {{end}}".to_owned()))),
    }
}

pub(super) type Parsed<T> = Result<T, (usize, String)>;

/// What ended a list.
enum Stop {
    End,
    Else(usize),
    Close(usize),
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    named: BTreeMap<String, List>,
    variables: Vec<String>,
    loops: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn skip_space(&mut self) -> &Token {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
        self.peek()
    }

    fn list(&mut self) -> Parsed<(List, Stop)> {
        let mut list = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::Text => list.push(Node::Text(token.text)),
                Kind::End => return Ok((list, Stop::End)),
                _ => match self.action()? {
                    Ok(Some(node)) => list.push(node),
                    Ok(None) => {}
                    Err(stop) => return Ok((list, stop)),
                },
            }
        }
    }

    /// What stands between braces: a node, nothing (`define`), or the end of a list.
    fn action(&mut self) -> Parsed<Result<Option<Node>, Stop>> {
        let token = self.skip_space().clone();
        let keyword = if token.kind == Kind::Word { token.text.as_str() } else { "" };
        let node = match keyword {
            "end" => {
                self.at += 1;
                self.close("end")?;
                return Ok(Err(Stop::Close(token.at)));
            }
            "else" => {
                self.at += 1;
                return Ok(Err(Stop::Else(token.at)));
            }
            "if" | "with" | "range" => {
                self.at += 1;
                self.block(keyword)?
            }
            "define" => {
                self.at += 1;
                self.define()?;
                return Ok(Ok(None));
            }
            "template" | "block" => {
                self.at += 1;
                self.template(keyword)?
            }
            "break" | "continue" => {
                self.at += 1;
                if self.loops == 0 {
                    return Err((token.at, format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                }
                self.close(keyword)?;
                if keyword == "break" { Node::Break } else { Node::Continue }
            }
            _ => {
                let pipe = self.pipe("command", Kind::Close)?;
                Node::Action(pipe)
            }
        };
        Ok(Ok(Some(node)))
    }

    fn close(&mut self, context: &str) -> Parsed<()> {
        let token = self.skip_space().clone();
        self.at += 1;
        if token.kind == Kind::Close { Ok(()) } else { Err(unexpected(&token, context)) }
    }

    fn block(&mut self, keyword: &str) -> Parsed<Node> {
        let scope = self.variables.len();
        let pipe = self.pipe(keyword, Kind::Close)?;
        self.loops += usize::from(keyword == "range");
        let (yes, stop) = self.list()?;
        self.loops -= usize::from(keyword == "range");
        let no = match stop {
            Stop::Close(_) => Vec::new(),
            Stop::End => return Err((self.peek().at, "unexpected EOF".to_owned())),
            Stop::Else(_) => self.otherwise(keyword)?,
        };
        self.variables.truncate(scope);
        Ok(match keyword {
            "if" => Node::If(pipe, yes, no),
            "with" => Node::With(pipe, yes, no),
            _ => Node::Range(pipe, yes, no),
        })
    }

    /// Behind `else`: `else if` and `else with` nest, a plain one runs to its `end`.
    fn otherwise(&mut self, keyword: &str) -> Parsed<List> {
        let token = self.skip_space().clone();
        if token.kind == Kind::Word && token.text == keyword && keyword != "range" {
            self.at += 1;
            return Ok(vec![self.block(keyword)?]);
        }
        self.close("else")?;
        match self.list()? {
            (list, Stop::Close(_)) => Ok(list),
            (_, Stop::Else(at)) => Err((at, "expected end; found {{else}}".to_owned())),
            (_, Stop::End) => Err((self.peek().at, "unexpected EOF".to_owned())),
        }
    }

    fn define(&mut self) -> Parsed<()> {
        let name = self.name("define clause")?;
        self.close("define clause")?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let (list, stop) = self.list()?;
        self.variables = outer;
        match stop {
            Stop::Close(_) => {
                self.named.insert(name, list);
                Ok(())
            }
            Stop::Else(at) => Err((at, "unexpected {{else}} in define clause".to_owned())),
            Stop::End => Err((self.peek().at, "unexpected EOF".to_owned())),
        }
    }

    fn template(&mut self, keyword: &str) -> Parsed<Node> {
        let at = self.skip_space().at;
        let name = self.name(&format!("{keyword} clause"))?;
        let pipe = if self.skip_space().kind == Kind::Close {
            self.at += 1;
            None
        } else {
            Some(self.pipe(keyword, Kind::Close)?)
        };
        if keyword == "block" {
            match self.list()? {
                (list, Stop::Close(_)) => self.named.insert(name.clone(), list),
                (_, _) => return Err((at, "unexpected EOF".to_owned())),
            };
        }
        Ok(Node::Template { at, name, pipe })
    }

    fn name(&mut self, context: &str) -> Parsed<String> {
        let token = self.skip_space().clone();
        self.at += 1;
        if token.kind == Kind::Text1 { unquote(&token) } else { Err(unexpected(&token, context)) }
    }

    fn pipe(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let at = self.skip_space().at;
        let (variables, assigns) = self.declaration(context == "range");
        let mut commands = Vec::new();
        loop {
            let token = self.skip_space().clone();
            if token.kind == end {
                self.at += 1;
                break;
            }
            commands.push(self.command(context)?);
            let token = self.skip_space().clone();
            match token.kind {
                Kind::Pipe => {
                    self.at += 1;
                    if self.skip_space().kind == end {
                        return Err((token.at, format!("missing value for {context}")));
                    }
                }
                kind if kind == end => {}
                _ => return Err(unexpected(&token, context)),
            }
        }
        if commands.is_empty() {
            return Err((at, format!("missing value for {context}")));
        }
        for command in &commands[1..] {
            if matches!(
                command.words[0].term,
                Term::Bool(_) | Term::Nil | Term::Int(_) | Term::Float(_) | Term::Text(_)
            ) || (matches!(command.words[0].term, Term::Dot)
                && command.words[0].chain.is_empty())
            {
                return Err((command.at, "non executable command in pipeline stage 2".to_owned()));
            }
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { at, variables, assigns, commands })
    }

    /// `$x :=`, `$x =`, and in range `$i, $x :=`.
    fn declaration(&mut self, range: bool) -> (Vec<String>, bool) {
        let start = self.at;
        let mut variables = Vec::new();
        while self.skip_space().kind == Kind::Variable {
            variables.push(self.next().text);
            let kind = self.skip_space().kind;
            match kind {
                Kind::Declare | Kind::Assign => {
                    self.at += 1;
                    return (variables, kind == Kind::Assign);
                }
                Kind::Comma if range && variables.len() < 2 => self.at += 1,
                _ => break,
            }
        }
        self.at = start;
        (Vec::new(), false)
    }

    fn command(&mut self, context: &str) -> Parsed<Command> {
        let mut words: Vec<Operand> = Vec::new();
        let at = self.peek().at;
        while !matches!(self.skip_space().kind, Kind::Pipe | Kind::Close | Kind::Right) {
            words.push(self.operand(context)?);
            let token = self.peek().clone();
            if !matches!(token.kind, Kind::Space | Kind::Pipe | Kind::Close | Kind::Right) {
                return Err(unexpected(&token, "operand"));
            }
        }
        if words.is_empty() {
            return Err((at, "empty command".to_owned()));
        }
        let shown = words.iter().map(|word| word.shown.as_str()).collect::<Vec<_>>().join(" ");
        Ok(Command { at, shown, words })
    }

    fn operand(&mut self, context: &str) -> Parsed<Operand> {
        let token = self.next();
        let mut shown = token.text.clone();
        let (mut at, mut chain) = (token.at, Vec::new());
        let term = match token.kind {
            Kind::Dot => Term::Dot,
            Kind::Field => {
                chain.push(token.text[1..].to_owned());
                Term::Dot
            }
            Kind::Variable if self.variables.contains(&token.text) => Term::Variable(token.text),
            Kind::Variable => {
                return Err((token.at, format!("undefined variable \"{}\"", token.text)));
            }
            Kind::Text1 => Term::Text(unquote(&token)?),
            Kind::Char => {
                Term::Int(unquote(&token)?.chars().next().map_or(0, |c| i64::from(u32::from(c))))
            }
            Kind::Number => number(&token)?,
            Kind::Left => {
                let pipe = self.pipe("parenthesized pipeline", Kind::Right)?;
                let inner: Vec<&str> =
                    pipe.commands.iter().map(|command| command.shown.as_str()).collect();
                shown = format!("({})", inner.join(" | "));
                Term::Pipe(pipe)
            }
            Kind::Word => match token.text.as_str() {
                "true" => Term::Bool(true),
                "false" => Term::Bool(false),
                "nil" => Term::Nil,
                name if is_function(name) => Term::Function(token.text),
                name => return Err((token.at, format!("function \"{name}\" not defined"))),
            },
            _ => return Err(unexpected(&token, context)),
        };
        while self.peek().kind == Kind::Field {
            let field = self.next();
            // Go places a chain at its last-joined part.
            if at == token.at {
                at = field.at;
            }
            shown.push_str(&field.text);
            chain.push(field.text[1..].to_owned());
        }
        Ok(Operand { at, shown, term, chain })
    }
}

fn unexpected(token: &Token, context: &str) -> (usize, String) {
    let what = match token.kind {
        Kind::End => return (token.at, "unexpected EOF".to_owned()),
        Kind::Word if is_keyword(&token.text) => format!("<{}>", token.text),
        _ => format!("\"{}\"", token.text),
    };
    (token.at, format!("unexpected {what} in {context}"))
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "end"
            | "else"
            | "if"
            | "with"
            | "range"
            | "define"
            | "template"
            | "block"
            | "break"
            | "continue"
    )
}
