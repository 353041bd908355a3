//! printf
use super::calls::Call;
use super::warp::Warp;
use super::{Machine, Stop};

/// Runs a function that the machine itself provides.
pub(super) fn builtin(
    _m: &mut Machine<'_>,
    _warp: &mut Warp,
    _name: &str,
    _call: &Call,
    _pc: u32,
    _mask: u32,
) -> Result<(), Stop> {
    Ok(())
}
