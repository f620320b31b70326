//! Printing to whoever reads: if nobody reads any more (`| head`), quietly to nobody.
//!
//! `println!` and its like panic then. These take their names in this program. What was
//! to be written into files still is, and the exit code says how the work went.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Prints; false if nobody reads any more.
pub(crate) fn print(to: &mut dyn Write, what: Arguments<'_>) -> bool {
    to.write_fmt(what).and_then(|()| to.flush()).is_ok()
}

pub(crate) fn out(what: Arguments<'_>) {
    print(&mut io::stdout().lock(), what);
}

pub(crate) fn err(what: Arguments<'_>) {
    print(&mut io::stderr().lock(), what);
}

macro_rules! print {
    ($($what:tt)*) => { $crate::output::out(format_args!($($what)*)) };
}

macro_rules! println {
    () => { $crate::output::out(format_args!("\n")) };
    ($($what:tt)*) => { $crate::output::out(format_args!("{}\n", format_args!($($what)*))) };
}

macro_rules! eprintln {
    () => { $crate::output::err(format_args!("\n")) };
    ($($what:tt)*) => { $crate::output::err(format_args!("{}\n", format_args!($($what)*))) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_is_no_panic() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(print(&mut writer, format_args!("{}\n", 1)));
        drop(reader);
        assert!(!print(&mut writer, format_args!("{}\n", 2)));
    }
}
