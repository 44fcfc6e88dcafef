//! The one error of the crate. Every variant of [`Kind`] becomes one Python exception (`python/errors.rs`), and every
//! message but those of our own mistakes follows one template:
//! `{op}: {argument}: expected {what}, got {what}. Hint: {one thing to do}.` Without a hint it ends after the first
//! full stop, and what ends with `?` or `!` gets none.

use std::any::Any;
use std::fmt;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a class that a caller can catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// wrong rank or size
    Shape,
    /// wrong element type
    DType,
    /// wrong or absent device
    Device,
    /// the device has gone; its tensors are lost
    DeviceLost,
    /// a mistake of ours
    Internal,
    /// an id out of range
    Index,
    /// an option's value without a meaning
    Value,
    /// a Python value of the wrong type
    Type,
    /// not enough memory, or a size past what can be addressed
    Memory,
    /// a call in the wrong state: stale tensors, a second backward
    State,
    /// the caller asked the call to stop (Ctrl-C)
    Interrupted,
}

/// What went wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// the class
    pub kind: Kind,
    /// the operation; empty until it is known ([`Error::of`])
    pub op: String,
    /// the message without the operation and the hint
    pub message: String,
    /// one thing to do, a sentence without its full stop; empty where there is nothing
    pub hint: String,
}

impl Error {
    /// An error about a named argument, by the template.
    pub fn argument(
        kind: Kind,
        op: &str,
        argument: &str,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Error {
        Error::found(kind, argument, expected, got).of(op)
    }

    /// The same where it is found out below any operation: the one that was called adds its name.
    pub fn found(kind: Kind, argument: &str, expected: impl fmt::Display, got: impl fmt::Display) -> Error {
        Error::plain(kind, format!("{argument}: expected {expected}, got {got}"))
    }

    /// Wrong rank or size of `argument`.
    pub fn shape(op: &str, argument: &str, expected: impl fmt::Display, got: impl fmt::Display) -> Error {
        Error::argument(Kind::Shape, op, argument, expected, got)
    }

    /// Wrong element type of `argument`.
    pub fn dtype(op: &str, argument: &str, expected: impl fmt::Display, got: impl fmt::Display) -> Error {
        Error::argument(Kind::DType, op, argument, expected, got)
    }

    /// A value without a meaning.
    pub fn value(op: &str, argument: &str, expected: impl fmt::Display, got: impl fmt::Display) -> Error {
        Error::argument(Kind::Value, op, argument, expected, got)
    }

    fn plain(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, op: String::new(), message: message.into(), hint: String::new() }
    }

    /// A mistake of ours: never the caller's fault.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::plain(Kind::Internal, message)
    }

    /// A panic that was caught, by its text ([`panic_text`]).
    pub fn panicked(text: &str) -> Error {
        Error::internal(format!("a panic was caught: {text}"))
    }

    /// No room for `what`.
    pub fn memory(what: impl fmt::Display) -> Error {
        Error::too_large(format_args!("room for {what}"), "none")
    }

    /// More than `expected` at once.
    pub fn too_large(expected: impl fmt::Display, got: impl fmt::Display) -> Error {
        Error::found(Kind::Memory, "memory", expected, got)
            .hint("let go of what is no longer needed, or work in smaller pieces")
    }

    /// The caller asked the call to stop.
    pub fn interrupted() -> Error {
        Error::plain(Kind::Interrupted, "interrupted")
    }

    /// Says which operation was called, where that is not said yet.
    pub fn of(mut self, op: &str) -> Error {
        if self.op.is_empty() {
            self.op = op.into();
        }
        self
    }

    /// Adds one thing to do, instead of what was added before.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = hint.into();
        self
    }
}

/// [`Error::of`] for results.
pub trait Of {
    /// Says which operation was called, where an error does not say it yet.
    fn of(self, op: &str) -> Self;
}

impl<T> Of for Result<T> {
    fn of(self, op: &str) -> Result<T> {
        self.map_err(|e| e.of(op))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stop = |text: &str| if text.ends_with(['.', '?', '!']) { "" } else { "." };
        if !self.op.is_empty() {
            write!(f, "{}: ", self.op)?;
        }
        write!(f, "{}{}", self.message, stop(&self.message))?;
        if !self.hint.is_empty() {
            write!(f, " Hint: {}{}", self.hint, stop(&self.hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// What a caught panic says.
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template() {
        let e = Error::shape("lstm", "x", "(T, B, 128)", "(50, 16, 64)").hint("the last axis is the feature axis");
        assert_eq!(
            e.to_string(),
            "lstm: x: expected (T, B, 128), got (50, 16, 64). Hint: the last axis is the feature axis."
        );
        assert_eq!(Error::value("op", "n", "at least 1", 0).to_string(), "op: n: expected at least 1, got 0.");
        assert_eq!(Error::internal("what?").hint("look.").to_string(), "what? Hint: look.");
        let found = Error::found(Kind::Device, "device", "a GPU", "none");
        assert_eq!(found.clone().of("to").of("copy").to_string(), "to: device: expected a GPU, got none.");
        assert_eq!(found.to_string(), "device: expected a GPU, got none.");
    }
}
