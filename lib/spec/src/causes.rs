//! An error as a person reads it: what failed, and all its causes. Both sides say errors in this way.

use std::error::Error;

/// An error with all its causes, on one line.
pub fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
