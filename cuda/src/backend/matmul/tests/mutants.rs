//! Every barrier, wait, fence, commit and arrival of a kernel, each taken out by itself, and every parity and count of bytes, each
//! made wrong by itself, is missed by somebody: a hazard, a deadlock, or another result.

use super::super::kernel::Feed;
use super::super::{KERNELS, Kernel, Major};
use super::Case;
use crate::kernels::Family;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tensor::DType;

/// Lines that are taken out.
const REMOVED: [&str; 16] = [
    "mbarrier.init",
    "fence.mbarrier_init",
    "barrier.cluster.arrive",
    "barrier.cluster.wait",
    "mbarrier.try_wait",
    "mbarrier.arrive.expect_tx",
    "mbarrier.arrive.release",
    "mbarrier.arrive.shared",
    "wgmma.fence",
    "wgmma.commit_group",
    "wgmma.wait_group",
    "bar.sync",
    "fence.proxy.async",
    "cp.async.bulk.commit_group",
    "cp.async.commit_group",
    "wait_group",
];

/// Lines whose last operand is replaced: a parity that never turns, and bytes that never come.
const REPLACED: [(&str, &str); 2] = [("mbarrier.try_wait.parity", "0"), ("mbarrier.arrive.expect_tx", "48")];

/// The text of one kernel in its family's PTX.
fn body(family: &Family, entry: &str) -> std::ops::Range<usize> {
    let begin = family.ptx.find(&format!(".entry {entry}(")).expect("the kernel");
    begin..family.ptx[begin..].find(".visible .entry").map_or(family.ptx.len(), |i| begin + i)
}

/// The line around the `nth` occurrence of `text` in a kernel.
fn line(family: &Family, entry: &str, text: &str, nth: usize) -> Option<std::ops::Range<usize>> {
    let body = body(family, entry);
    let at = body.start + family.ptx[body].match_indices(text).nth(nth)?.0;
    let begin = family.ptx[..at].rfind('\n').map_or(0, |i| i + 1);
    Some(begin..begin + family.ptx[begin..].find('\n').unwrap_or(0))
}

fn with(family: Family, range: std::ops::Range<usize>, text: &str) -> Family {
    Family { ptx: [&family.ptx[..range.start], text, &family.ptx[range.end..]].concat().leak(), ..family }
}

/// All mutants of a kernel, each with what was done.
fn mutants(kernel: &Kernel, entry: &str) -> Vec<(&'static str, usize, Family)> {
    let family = kernel.family;
    let mut all = vec![];
    let mut seen = std::collections::HashSet::new();
    for text in REMOVED {
        for nth in 0.. {
            let Some(range) = line(&family, entry, text, nth) else { break };
            // `wait_group` is in other texts, too.
            if seen.insert(range.start) {
                all.push((text, nth, with(family, range, "")));
            }
        }
    }
    for (text, operand) in REPLACED {
        for nth in 0.. {
            let Some(range) = line(&family, entry, text, nth) else { break };
            let old = &family.ptx[range.clone()];
            let (kept, last) = old.rsplit_once(' ').expect("operands");
            assert!(last.ends_with(';'), "{old}");
            all.push((text, nth, with(family, range, &format!("{kept} {operand};"))));
        }
    }
    all
}

#[test]
fn every_synchronisation_is_needed() {
    let mut work = vec![];
    let mut sound = vec![];
    for kernel in &KERNELS {
        // Several tiles on one cluster, and more steps than stages where a CTA has but one, so that all is used again.
        let stays = matches!(kernel.feed, Feed::Boxes { stays: true, .. });
        let k = if stays { 200 } else { 64 * kernel.stages + 136 };
        let dtype = if kernel.dtypes.contains(&DType::BF16) { DType::BF16 } else { DType::F32 };
        let n = if kernel.cluster > 1 { 296 } else { 200 };
        let case = Case { sizes: [130, n, k, 1], major: [Major::K, Major::Mn], shared: [false; 2], dtype };
        let layout = if kernel.layouts.is_empty() { "" } else { "_kn" };
        let entry = format!("{}{layout}_{dtype}", kernel.entry);
        let of_kernel = mutants(kernel, &entry);
        assert!(kernel.rung == 1 || of_kernel.len() >= 2, "{entry} has {} mutants", of_kernel.len());
        sound.push(case.run(kernel, kernel.cluster as u32, 1).expect("a sound kernel").expect("accepted").to_bytes());
        work.extend(
            of_kernel
                .into_iter()
                .map(|(text, nth, family)| (sound.len() - 1, case, Kernel { family, ..*kernel }, entry.clone(), text, nth)),
        );
    }
    let next = AtomicUsize::new(0);
    let missed: Vec<String> = std::thread::scope(|scope| {
        let worker = || {
            let mut missed = vec![];
            while let Some((sound_at, case, mutant, entry, text, nth)) = work.get(next.fetch_add(1, Relaxed)) {
                let is_sound = |y: Option<tensor::Tensor>| y.is_some_and(|y| y.to_bytes() == sound[*sound_at]);
                let found = (0..3).any(|seed| case.run(mutant, mutant.cluster as u32, seed).map_or(true, |y| !is_sound(y)));
                if !found {
                    missed.push(format!("{entry}: {text} {nth}"));
                }
            }
            missed
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    assert!(work.len() > 150, "only {} mistakes were planted", work.len());
    assert!(missed.is_empty(), "{} planted, not missed by anybody:\n{}", work.len(), missed.join("\n"));
}
