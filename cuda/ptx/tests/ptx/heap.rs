//! The heap of kernels: `malloc` and `free`.

use ptx::{FaultKind, HazardKind};

use crate::warps::{bytes, launch, words};

/// Each thread takes 8 bytes, writes its number there, and gives it out; `last` is what it does in the end.
fn kernel(last: &str) -> String {
    format!(
        ".extern .func (.param .b64 r) malloc (.param .b64 n);
         .extern .func free (.param .b64 p);
         .visible .entry k(.param .u64 out) {{
         .reg .b32 %r<4>; .reg .b64 %rd<8>;
         ld.param.u64 %rd0, [out]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.u64 %rd1, %rd0, %rd1;
         {{ .param .b64 a; .param .b64 b; st.param.b64 [a], 8; call.uni (b), malloc, (a); ld.param.b64 %rd2, [b]; }}
         st.u32 [%rd2+4], %r0; ld.u32 %r1, [%rd2+4]; st.global.u32 [%rd1], %r1;
         {{ .param .b64 a; st.param.b64 [a], %rd2; call.uni free, (a); }}
         {last} ret; }}"
    )
}

#[test]
fn a_block_is_its_threads_until_it_is_freed() {
    let (report, out) = launch(&kernel(""), 1, 1, 40, &[bytes(&[0; 40])]);
    report.assert_clean();
    assert_eq!(words(&out[0]), (0..40).collect::<Vec<u32>>());
}

#[test]
fn use_after_free_and_a_second_free_are_named() {
    let after = kernel("ld.u32 %r1, [%rd2+4]; st.global.u32 [%rd1], %r1;");
    let twice = kernel("{ .param .b64 a; st.param.b64 [a], %rd2; call.uni free, (a); }");
    for source in [after, twice] {
        let (report, _) = launch(&source, 1, 1, 1, &[bytes(&[0])]);
        assert_eq!(report.hazards.last().map(|h| h.kind), Some(HazardKind::UseAfterFree), "{report:?}");
        assert_eq!(report.fault.map(|f| f.kind), Some(FaultKind::IllegalAddress));
    }
    let other = kernel("{ .param .b64 a; add.u64 %rd1, %rd1, 4; st.param.b64 [a], %rd1; call.uni free, (a); }");
    let (report, _) = launch(&other, 1, 1, 1, &[bytes(&[0; 2])]);
    assert_eq!(report.hazards.last().map(|h| h.kind), Some(HazardKind::UndefinedBehavior), "{report:?}");
}
