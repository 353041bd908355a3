//! [`operation`]: in whose name, and at which line, a call panics that cannot be carried out.
//!
//! An operation may be made of others, but what the user knows is what was called. So wherever a part finds fault (`refuse!`),
//! it unwinds to the outermost operation, which panics in its own name at its caller's line.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    static RUNNING: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// What a part of an operation unwinds with: why the whole cannot be carried out.
struct Refused(String);

/// The body of a public operation.
///
/// # Panics
/// Where the body, or an operation that it calls, refuses ([`refuse!`](crate::refuse!)): at the caller's line, with `name` before the
/// reason.
///
/// ```should_panic
/// use tensor::{DType, Device, Tensor, operation};
/// /// `2·x`. A tensor of bools is refused as "double: …", at the line that calls `double`.
/// #[track_caller]
/// fn double(x: &Tensor) -> Tensor {
///     operation("double", || match x.dtype() {
///         DType::Bool => tensor::refuse!("{x:?} cannot be doubled"),
///         _ => x.mul(2),
///     })
/// }
/// double(&Tensor::ones(2, DType::Bool, &Device::cpu()));
/// ```
#[track_caller]
pub fn operation<R>(name: &'static str, body: impl FnOnce() -> R) -> R {
    if RUNNING.get().is_some() {
        return body();
    }
    RUNNING.set(Some(name));
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    RUNNING.set(None);
    match result {
        Ok(result) => result,
        Err(cause) => match cause.downcast::<Refused>() {
            Ok(cause) => panic!("{name}: {}", cause.0),
            Err(other) => panic::resume_unwind(other),
        },
    }
}

/// The operation that is under way on this thread, the outermost, by the name of the method that was called: for a backend's
/// messages.
pub fn running_operation() -> Option<&'static str> {
    RUNNING.get()
}

/// Runs what this thread may interrupt with work that is no part of the operation: a thread that waits for others takes up
/// whatever there is to do.
pub(crate) fn interruptible<R>(wait: impl FnOnce() -> R) -> R {
    let before = RUNNING.take();
    let result = wait();
    RUNNING.set(before);
    result
}

/// Leaves the operation that is under way; see [`refuse!`](crate::refuse!).
///
/// # Panics
/// Always; outside of an operation at the caller's line.
#[doc(hidden)]
#[track_caller]
pub fn refuse(why: String) -> ! {
    if RUNNING.get().is_some() { panic::resume_unwind(Box::new(Refused(why))) } else { panic!("{why}") }
}

/// Says, as `format!` does, why the [`operation`] that is under way cannot be carried out, and leaves it.
#[macro_export]
macro_rules! refuse {
    ($($why:tt)*) => { $crate::refuse(format!($($why)*)) };
}
