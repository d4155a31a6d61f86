//! Running a tree over data, by the rules of text/template.

use engine_api::Value;
use engine_api::view::{Nil, Shown};

use super::Template;
use super::functions::{self, call};
use super::parse::{Command, List, Node, Operand, Pipe, Term};
use super::print::shown;
use super::value::Val;

/// How deep templates may call each other.
const DEPTH: usize = 1000;

/// Runs the main list with `data` as dot.
pub(super) fn run(template: &Template, data: Shown<'_>) -> Result<String, String> {
    let data = Val::Shown(data);
    let mut state = State {
        template,
        out: String::new(),
        variables: vec![("$".to_owned(), data.clone())],
        depth: 0,
        name: String::new(),
    };
    state.list(&template.tree.main, &data).map_err(|stop| match stop {
        Stop::Failed(why) => why,
        Stop::Break | Stop::Continue => String::new(),
    })?;
    Ok(state.out)
}

/// Why a list does not go on.
enum Stop {
    Failed(String),
    Break,
    Continue,
}

type Done<T> = Result<T, Stop>;

struct State<'t, 'a> {
    template: &'t Template,
    out: String,
    variables: Vec<(String, Val<'a>)>,
    depth: usize,
    name: String,
}

impl<'a> State<'_, 'a> {
    fn fail<T>(&self, at: usize, shown: &str, why: &str) -> Done<T> {
        let before = &self.template.source[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rfind('\n').map_or(at, |newline| at - newline);
        // Go shows the first twenty characters of a piece.
        let piece = if shown.len() > 20 {
            format!("{}...", shown.chars().take(20).collect::<String>())
        } else {
            shown.to_owned()
        };
        Err(Stop::Failed(format!(
            ":{line}:{column}: executing \"{}\" at <{piece}>: {why}",
            self.name
        )))
    }

    fn list(&mut self, list: &List, dot: &Val<'a>) -> Done<()> {
        for node in list {
            self.node(node, dot)?;
        }
        Ok(())
    }

    fn scoped(&mut self, list: &List, dot: &Val<'a>, mark: usize) -> Done<()> {
        let result = self.list(list, dot);
        self.variables.truncate(mark);
        result
    }

    fn node(&mut self, node: &Node, dot: &Val<'a>) -> Done<()> {
        let mark = self.variables.len();
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&shown(&value));
                }
            }
            Node::If(pipe, yes, no) => {
                let value = self.pipe(pipe, dot)?;
                self.scoped(if value.truth() { yes } else { no }, dot, mark)?;
            }
            Node::With(pipe, yes, no) => {
                let value = self.pipe(pipe, dot)?;
                if value.truth() {
                    self.scoped(yes, &value, mark)?;
                } else {
                    self.scoped(no, dot, mark)?;
                }
            }
            Node::Range(pipe, yes, no) => self.range(pipe, yes, no, dot)?,
            Node::Template { at, name, pipe } => {
                self.call_template(*at, name, pipe.as_ref(), dot)?;
            }
            Node::Break => return Err(Stop::Break),
            Node::Continue => return Err(Stop::Continue),
        }
        Ok(())
    }

    fn range(&mut self, pipe: &Pipe, yes: &List, no: &List, dot: &Val<'a>) -> Done<()> {
        let mark = self.variables.len();
        let value = self.pipe(pipe, dot)?;
        self.variables.truncate(mark);
        let pairs = self.pairs(pipe, &value)?;
        if pairs.is_empty() {
            return self.scoped(no, dot, mark);
        }
        for (key, item) in pairs {
            match pipe.variables.as_slice() {
                [one] => self.set(one, item.clone(), pipe.assigns),
                [index, one] => {
                    self.set(index, key, pipe.assigns);
                    self.set(one, item.clone(), pipe.assigns);
                }
                _ => {}
            }
            match self.scoped(yes, &item, mark) {
                Ok(()) | Err(Stop::Continue) => {}
                Err(Stop::Break) => break,
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// What a range walks: index or key, and element.
    fn pairs(&self, pipe: &Pipe, value: &Val<'a>) -> Done<Vec<(Val<'a>, Val<'a>)>> {
        if let Some(keys) = value.keys() {
            let pair = |key: String| {
                let item = value.entry(&key).unwrap_or(Val::Missing);
                (Val::text(key), item)
            };
            return Ok(keys.into_iter().map(pair).collect());
        }
        if let Some(count) = value.as_int() {
            let count = usize::try_from(count).unwrap_or(0);
            return Ok((0..count).map(|n| (Val::int(n), Val::int(n))).collect());
        }
        match value.clone().simple() {
            Val::Missing | Val::Shown(Shown::Nil(_)) => Ok(Vec::new()),
            Val::Shown(Shown::Text(_)) => self.cannot_range(pipe, value),
            list => match list.len() {
                Some(length) => {
                    Ok((0..length).filter_map(|at| Some((Val::int(at), list.at(at)?))).collect())
                }
                None => self.cannot_range(pipe, value),
            },
        }
    }

    fn cannot_range<T>(&self, pipe: &Pipe, value: &Val<'a>) -> Done<T> {
        let piece = &pipe.commands[0].shown;
        self.fail(pipe.at, piece, &format!("range can't iterate over {}", shown(value)))
    }

    fn call_template(
        &mut self,
        at: usize,
        name: &str,
        pipe: Option<&Pipe>,
        dot: &Val<'a>,
    ) -> Done<()> {
        let Some(list) = self.template.tree.named.get(name) else {
            return self.fail(
                at,
                &format!("{{{{template \"{name}\"}}}}"),
                &format!("template \"{name}\" not defined"),
            );
        };
        if self.depth >= DEPTH {
            return self.fail(at, name, "exceeded maximum template depth");
        }
        let value = pipe.map_or(Ok(Val::Missing), |pipe| self.pipe(pipe, dot))?;
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), value.clone())]);
        let outer_name = std::mem::replace(&mut self.name, name.to_owned());
        self.depth += 1;
        let result = self.list(list, &value);
        self.depth -= 1;
        self.name = outer_name;
        self.variables = outer;
        result
    }

    fn set(&mut self, name: &str, value: Val<'a>, assigns: bool) {
        let slot = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        match slot {
            Some((_, slot)) if assigns => *slot = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Val<'a>) -> Done<Val<'a>> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Val::Missing);
        if let [name] = pipe.variables.as_slice() {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Val<'a>,
        last: Option<Val<'a>>,
    ) -> Done<Val<'a>> {
        let (first, rest) = (&command.words[0], &command.words[1..]);
        if let (Term::Function(name), []) = (&first.term, first.chain.as_slice()) {
            return self.function(command, name, rest, dot, last);
        }
        let callable = !first.chain.is_empty();
        let mut args = Vec::new();
        for word in rest {
            args.push(self.operand(word, &[], dot)?);
        }
        args.extend(last);
        if !args.is_empty() && !callable {
            let why = format!("can't give argument to non-function {}", first.shown);
            return self.fail(first.at, &first.shown, &why);
        }
        self.operand(first, &args, dot)
    }

    fn function(
        &mut self,
        command: &Command,
        name: &str,
        words: &[Operand],
        dot: &Val<'a>,
        last: Option<Val<'a>>,
    ) -> Done<Val<'a>> {
        // `and` and `or` stop at the first word that decides.
        if matches!(name, "and" | "or") {
            let mut value = None;
            for word in words {
                let next = self.operand(word, &[], dot)?;
                let decided = next.truth() == (name == "or");
                value = Some(next);
                if decided {
                    return Ok(value.unwrap_or(Val::Missing));
                }
            }
            if let Some(value) = last.or(value) {
                return Ok(value);
            }
            return self.fail(
                command.at,
                name,
                &format!("wrong number of args for {name}: want at least 1 got 0"),
            );
        }
        let mut args = Vec::new();
        for word in words {
            args.push(self.operand(word, &[], dot)?);
        }
        args.extend(last);
        call(name, args).or_else(|why| match why {
            functions::Wrong::Arguments(why) => self.fail(command.at, name, &why),
            functions::Wrong::Call(why) => {
                self.fail(command.at, &command.shown, &format!("error calling {name}: {why}"))
            }
        })
    }

    /// An operand's value; `args` go to the last part of its chain.
    fn operand(&mut self, operand: &Operand, args: &[Val<'a>], dot: &Val<'a>) -> Done<Val<'a>> {
        let mut value = match &operand.term {
            Term::Dot => dot.clone(),
            Term::Nil if operand.chain.is_empty() => {
                return self.fail(operand.at, &operand.shown, "nil is not a command");
            }
            Term::Nil => Val::Missing,
            Term::Bool(value) => Val::bool(*value),
            Term::Int(value) => Val::Shown(Shown::Int(*value)),
            Term::Float(value) => Val::Shown(Shown::Float(*value)),
            Term::Text(text) => Val::text(text.clone()),
            Term::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map_or(Val::Missing, |(_, value)| value.clone())
            }
            Term::Function(name) => call(name, Vec::new())
                .or_else(|_| self.fail(operand.at, name, "wrong number of args"))?,
            Term::Pipe(pipe) => self.pipe(pipe, dot)?,
        };
        for (at, name) in operand.chain.iter().enumerate() {
            let args = if at + 1 == operand.chain.len() { args } else { &[] };
            value = self.field(operand, &value, name, args)?;
        }
        Ok(value)
    }

    fn field(
        &self,
        operand: &Operand,
        value: &Val<'a>,
        name: &str,
        args: &[Val<'a>],
    ) -> Done<Val<'a>> {
        let fail = |why: String| self.fail(operand.at, &operand.shown, &why);
        let not_invokable = || format!("{name} has arguments but cannot be invoked as function");
        match value {
            Val::Shown(Shown::Struct(fields)) => {
                let shown: Vec<Shown<'_>> = args.iter().filter_map(as_shown).collect();
                if let Some(result) = fields.method(name, &shown) {
                    return result
                        .map(Val::Shown)
                        .or_else(|why| fail(format!("error calling {name}: {why}")));
                }
                match fields.field(name) {
                    Some(_) if !args.is_empty() => fail(not_invokable()),
                    Some(field) => Ok(Val::Shown(field)),
                    None => {
                        fail(format!("can't evaluate field {name} in type {}", fields.type_name()))
                    }
                }
            }
            Val::Shown(Shown::Map(_) | Shown::Json(Value::Object(_)) | Shown::Nil(Nil::Map)) => {
                if !args.is_empty() {
                    return fail(format!("{name} is not a method but has arguments"));
                }
                match value.entry(name) {
                    Some(found) => Ok(found),
                    None if self.template.missing_key_fails => {
                        fail(format!("map has no entry for key \"{name}\""))
                    }
                    None => Ok(Val::Missing),
                }
            }
            Val::Shown(Shown::Nil(Nil::Pointer)) => fail(format!("nil pointer evaluating {name}")),
            Val::Missing | Val::Shown(Shown::Nil(_) | Shown::Json(Value::Null)) => {
                fail(format!("nil pointer evaluating interface {{}}.{name}"))
            }
            other => fail(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }
}

/// What a method may be given.
fn as_shown<'a>(value: &Val<'a>) -> Option<Shown<'a>> {
    match value {
        Val::Shown(shown) => Some(shown.clone()),
        _ => None,
    }
}
