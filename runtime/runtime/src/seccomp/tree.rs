//! Ranges of call numbers, searched as a binary tree. Jumps to an answer stay open until their part
//! of the tree is whole: answers are appended once for all of them, which halves a tree.
//!
//! Everything is written in place, in the one program, for this runs at every start.

use super::{Decision, JGE, RET, condition, jump, jump_always, ret};
use super::{FAIL, SeccompArg};
use sys::privilege::BpfInsn;

/// A jump reaches 255 instructions; what would grow beyond this gets its answers before.
const REACH: usize = 230;

/// A jump that still lacks its target: place, whether it is the jump of "true", answer.
type Open = (usize, bool, u32);

/// Appends a tree to a program.
pub(super) fn append(program: &mut Vec<BpfInsn>, ranges: &[(u32, &Decision<'_>)], default: u32) {
    let mut code = Code { insns: std::mem::take(program), open: Vec::with_capacity(128), default };
    code.tree(ranges);
    code.close(0, code.insns.len());
    *program = code.insns;
}

struct Code {
    insns: Vec<BpfInsn>,
    open: Vec<Open>,
    default: u32,
}

/// Where a part of the tree begins, in instructions and in open jumps. It ends where the next begins.
#[derive(Clone, Copy)]
struct Mark {
    insn: usize,
    open: usize,
}

impl Code {
    fn mark(&self) -> Mark {
        Mark { insn: self.insns.len(), open: self.open.len() }
    }

    /// Most instructions of a part once it is closed.
    fn size(from: Mark, to: Mark) -> usize {
        to.insn - from.insn + to.open - from.open
    }

    /// Puts the answers of all jumps from the `first` on at `end`; what is behind must have none
    /// open. Returns how many instructions that took.
    fn close(&mut self, first: usize, end: usize) -> usize {
        let mut answers: Vec<u32> = Vec::new();
        for (at, when, verdict) in self.open.drain(first..) {
            let known = answers.iter().position(|v| *v == verdict);
            let place = known.unwrap_or_else(|| {
                answers.push(verdict);
                answers.len() - 1
            });
            let distance = (end + place - at - 1) as u8;
            let insn = &mut self.insns[at];
            *(if when { &mut insn.jt } else { &mut insn.jf }) = distance;
        }
        let count = answers.len();
        self.insns.splice(end..end, answers.into_iter().map(ret));
        count
    }

    fn tree(&mut self, ranges: &[(u32, &Decision<'_>)]) {
        if let [(_, decision)] = ranges {
            return self.leaf(decision);
        }
        let start = self.mark();
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let answer = |side: &[(u32, &Decision<'_>)]| match side {
            [(_, Decision::Always(verdict))] => Some(*verdict),
            _ => None,
        };
        self.insns.push(jump(JGE, above[0].0, 0, 0));
        match (answer(below), answer(above)) {
            (Some(left), Some(right)) => {
                self.open.extend([(start.insn, true, right), (start.insn, false, left)]);
            }
            (Some(left), None) => {
                self.open.push((start.insn, false, left));
                self.tree(above);
            }
            (None, Some(right)) => {
                self.open.push((start.insn, true, right));
                self.tree(below);
            }
            (None, None) => self.halves(start.insn, below, above),
        }
        if Self::size(start, self.mark()) > REACH {
            self.close_far(start);
        }
    }

    /// Both halves behind the jump at `at`, which leads over the first.
    fn halves(
        &mut self,
        at: usize,
        below: &[(u32, &Decision<'_>)],
        above: &[(u32, &Decision<'_>)],
    ) {
        let left = self.mark();
        self.tree(below);
        let right = self.mark();
        self.tree(above);
        let mut length = right.insn - left.insn;
        if Self::size(left, self.mark()) > REACH {
            self.close(right.open, self.insns.len());
            length += self.close(left.open, right.insn);
        }
        if let Ok(near) = u8::try_from(length) {
            self.insns[at].jt = near;
        } else {
            // Nothing is open: what is this long was closed.
            self.insns[at].jf = 1;
            self.insns.insert(at + 1, jump_always(length));
        }
    }

    /// Answers the first instruction's jumps right behind it: the others are far or closed.
    fn close_far(&mut self, start: Mark) {
        let mine: Vec<Open> = self.open.drain(start.open..).collect();
        let (near, far): (Vec<_>, Vec<_>) =
            mine.into_iter().partition(|(at, _, _)| *at == start.insn);
        self.open.extend(far);
        self.close(start.open, self.insns.len());
        for (_, when, verdict) in near {
            self.insns.insert(start.insn + 1, ret(verdict));
            let first = &mut self.insns[start.insn];
            (first.jt, first.jf) = if when { (0, first.jf + 1) } else { (first.jt + 1, 0) };
        }
    }

    fn leaf(&mut self, decision: &Decision<'_>) {
        match decision {
            Decision::Always(verdict) => self.insns.push(ret(*verdict)),
            Decision::When(rules) => {
                for (args, verdict) in rules {
                    self.rule(args, *verdict);
                }
                self.insns.push(ret(self.default));
            }
        }
    }

    /// An answer that stands when every condition holds; else the code behind it decides.
    fn rule(&mut self, args: &[SeccompArg], verdict: u32) {
        let start = self.insns.len();
        for arg in args {
            self.insns.extend(condition(arg));
        }
        self.insns.push(ret(verdict));
        let end = self.insns.len();
        for (at, insn) in self.insns[start..].iter_mut().enumerate() {
            let out = (end - start - at - 1) as u8;
            if insn.code != RET {
                insn.jt = if insn.jt == FAIL { out } else { insn.jt };
                insn.jf = if insn.jf == FAIL { out } else { insn.jf };
            }
        }
    }
}
