//! JSON as Go reads and writes it: values that keep order and duplicates, a
//! reader with Go's error texts, a writer with Go's escapes and numbers.

mod encode;
mod parse;
mod value;

pub use encode::Encoder;
pub use parse::{SyntaxError, parse, parse_prefix};
pub use value::{Number, Value};
