//! How functions of the two libraries are written: [`offer!`] declares those that do something, [`refuse!`] those that exist by name
//! only, so that a program that needs one starts, and fails by its name.

use std::cell::Cell;

use crate::session::session;
use crate::status::Status;

/// What a function gives back, before it is a number.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Why a call failed: its number, and a sentence where the number does not say it all.
#[derive(Debug)]
pub struct Failure {
    pub status: Status,
    pub why: Option<String>,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure { status, why: None }
    }
}

/// A failure that explains itself on standard error.
pub fn failure(status: Status, why: impl Into<String>) -> Failure {
    Failure { status, why: Some(why.into()) }
}

thread_local! {
    /// What `cudaGetLastError` gives.
    static LAST: Cell<i32> = const { Cell::new(0) };
}

fn finish(name: &str, work: impl FnOnce() -> Result) -> i32 {
    match work() {
        Ok(()) => 0,
        Err(Failure { status, why }) => {
            if let Some(why) = why {
                session().say(&format!("{name}: {why}"));
            }
            status.0
        }
    }
}

/// A call of the driver's API.
pub fn driver(name: &str, work: impl FnOnce() -> Result) -> i32 {
    finish(name, work)
}

/// A call of the runtime's API: a failure is remembered for `cudaGetLastError`.
pub fn runtime(name: &str, work: impl FnOnce() -> Result) -> i32 {
    let status = finish(name, work);
    if status != 0 {
        LAST.set(status);
    }
    status
}

/// The last failure of this thread, which is forgotten if `take`.
pub fn last_error(take: bool) -> i32 {
    if take { LAST.replace(0) } else { LAST.get() }
}

/// A function that exists by name only.
pub fn refused(name: &str) -> Failure {
    session().refuse(&format!("{name} is not offered"));
    Status::NOT_SUPPORTED.into()
}

/// Functions of a library (`runtime` or `driver`): names (those after a bar are the same function), arguments, and a block that is a
/// [`Result`].
macro_rules! offer {
    (@one $library:ident, $name:ident, ($($arg:ident : $ty:ty),* $(,)?), $body:block) => {
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "NVIDIA's name")]
        pub extern "C" fn $name($($arg: $ty),*) -> i32 {
            crate::call::$library(stringify!($name), || $body)
        }
    };
    (@all $library:ident, [$($name:ident)*], $args:tt, $body:block) => {
        $(offer!(@one $library, $name, $args, $body);)*
    };
    ($library:ident; $($($name:ident)|+ ($($args:tt)*) $body:block)*) => {
        $(offer!(@all $library, [$($name)+], ($($args)*), $body);)*
    };
}

/// Functions of a library that fail with their name.
macro_rules! refuse {
    ($library:ident; $($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, reason = "NVIDIA's name")]
            pub extern "C" fn $name() -> i32 {
                crate::call::$library(stringify!($name), || Err(crate::call::refused(stringify!($name))))
            }
        )*
    };
}

pub(crate) use {offer, refuse};
