//! Whether operations are recorded: a switch a thread.

use std::cell::Cell;

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// Sets the switch until it is dropped, also by a panic.
pub(crate) struct Scope {
    before: bool,
}

impl Scope {
    pub(crate) fn new(enabled: bool) -> Scope {
        Scope { before: ENABLED.replace(enabled) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        ENABLED.set(self.before);
    }
}

/// Runs `f` without recording: results are constants, and nothing is kept for a backward pass. The scope is the calling
/// thread's; it ends with `f`, also if `f` panics.
///
/// ```
/// use autograd::{Var, no_grad};
/// use tensor::{Device, Tensor};
/// let w = Var::parameter(Tensor::from_slice(&[1.0f32], 1, &Device::cpu()));
/// assert!(!no_grad(|| &w * 2.0).requires_grad());
/// ```
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    let _scope = Scope::new(false);
    f()
}

/// Whether the calling thread records operations: true outside of [`no_grad`].
pub fn is_grad_enabled() -> bool {
    ENABLED.get()
}
