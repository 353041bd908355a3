//! What decoding works with: operands ([`operand`]), the names in scope and an instruction's parts ([`decode`]), and a module
//! without its code ([`program`]). Nothing here knows what an instruction does; that is [`crate::exec`]'s.

pub mod decode;
pub mod initial;
pub mod operand;
pub mod program;

pub use decode::Cx;
pub use operand::{Addr, Args, Class, Constant, Guard, NO_PC, Reg, Special};
pub use program::{Entry, KernelInfo, ParamInfo, Program};
