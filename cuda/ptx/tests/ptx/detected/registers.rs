//! The budget of `setmaxnreg`.

use ptx::HazardKind::*;

use super::{Program, program};

/// 384 threads, of which 168 registers each fit into an SM.
const SPECIALISED: &str = "
    mov.u32 %r0, %tid.x;
    setp.lt.u32 %q0, %r0, 128;
    @%q0 bra PRODUCER;
    setmaxnreg.inc.sync.aligned.u32 232;
    bra END;
PRODUCER:
    setmaxnreg.dec.sync.aligned.u32 40;
END:
    bar.sync 0;";

fn with(directives: &'static str, body: &str) -> Program {
    Program { directives, ..program(384, body) }
}

#[test]
fn what_warpgroups_ask_for_fits_into_what_the_cta_was_given() {
    let bounds = ".maxntid 384, 1, 1 .minnctapersm 1";
    let p = with(bounds, SPECIALISED);
    p.clean();
    p.named(
        "232",
        "240",
        RegisterBudget,
        "168 x 384 threads = 64512, its warpgroups hold and ask for 40 + 240 + 240 a thread, 66560",
    );
    p.named("dec.sync.aligned.u32 40", "dec.sync.aligned.u32 48", RegisterBudget, "48 + 232 + 232");
    p.named("setmaxnreg.dec.sync.aligned.u32 40;", "", RegisterBudget, "168 + 232 + 232");
    // As `.maxnreg` says; and without either ptxas ignores the instruction.
    with(".maxntid 384, 1, 1 .maxnreg 168", SPECIALISED).clean();
    let (few, many) = (SPECIALISED.replace("232", "240"), SPECIALISED.replace("232", "152"));
    with(".maxntid 384, 1, 1", &few).clean();
    with(".maxnreg 112", &many).named(
        "152",
        "152",
        RegisterBudget,
        "112 x 384 threads = 43008, its warpgroups hold and ask for 40 + 152 + 152",
    );
    with(".maxnreg 120", &many).clean();
}

#[test]
fn all_warps_of_a_warpgroup_change_their_registers_together() {
    let body = SPECIALISED.replace("setmaxnreg.inc.sync.aligned.u32 232;", "");
    let p = with(".maxntid 384, 1, 1 .minnctapersm 1", &body);
    p.clean();
    p.named("%r0, 128", "%r0, 96", UndefinedBehavior, "not all warps of the warpgroup");
    p.named(
        "40;",
        "40;\n setp.lt.u32 %q1, %r0, 32;\n @%q1 setmaxnreg.dec.sync.aligned.u32 32;",
        UndefinedBehavior,
        "not all warps",
    );
}
