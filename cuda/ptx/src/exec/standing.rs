//! Where every warp stands: what it waits for, what is missing, and who brought it the last time.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::bulk::{self, Asyncs};
use super::machine::Machine;
use super::residents::{Cta, Residents};
use super::step::Engine;
use super::warp::{Split, Wait, Warp};
use crate::hazard::{Site, listed};

/// A group of lanes and what it does.
pub struct Stand {
    pub site: Site,
    pub lanes: u32,
    /// Its CTA and its number there.
    pub cta: [u32; 3],
    pub warp: u32,
    /// What it does or waits for.
    pub state: String,
    /// What is missing for that, and who should bring it; empty where the state says it all.
    pub missing: String,
    /// It waits for lanes of its own warp.
    pub divided: bool,
    /// It waits for registers.
    pub starved: bool,
}

/// All groups of lanes of all resident warps.
pub fn all(engine: &mut Engine<'_>) -> Vec<Stand> {
    let Engine { machine: m, residents, asyncs, .. } = engine;
    let mut list = Vec::new();
    for cta in residents.ctas.iter().flatten() {
        for warp in cta.warps.iter().flatten() {
            for split in &warp.splits {
                list.push(stand(m, residents, asyncs, cta, warp, split));
            }
        }
    }
    list
}

/// The same as a table: how many groups are where, most first.
pub fn table(engine: &mut Engine<'_>) -> String {
    let stands = all(engine);
    let m = &engine.machine;
    let mut rows: BTreeMap<(u32, String), Vec<&Stand>> = BTreeMap::new();
    for stand in &stands {
        rows.entry((stand.site.pc, stand.state.clone())).or_default().push(stand);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, stands)| std::cmp::Reverse(stands.len()));
    let resident = engine.residents.ctas.iter().flatten().count();
    let mut out = format!(
        "{} after {} warp instructions: {resident} of {} CTAs are resident\n{:>6}  {:<8}  {:<40}  state\n",
        m.kernel.entry.name,
        m.pace.steps,
        m.kernel.grid.ctas(),
        "warps",
        "PTX line",
        "first",
    );
    for ((_, state), stands) in rows.iter().take(64) {
        let first = stands[0];
        let place = m.kernel.place(first.site);
        let source = place.source.map(|s| format!(" at {}:{}", s.file, s.line)).unwrap_or_default();
        let who = format!("warp {} of CTA {:?}", first.warp, first.cta);
        let _ = writeln!(out, "{:>6}  {:<8}  {who:<40}  {state}{source}", stands.len(), place.ptx_line);
    }
    if rows.len() > 64 {
        let _ = writeln!(out, "… and {} more rows", rows.len() - 64);
    }
    out
}

fn stand(m: &mut Machine<'_>, residents: &Residents, asyncs: &Asyncs, cta: &Cta, warp: &Warp, split: &Split) -> Stand {
    let pc = match &split.wait {
        Some(Wait::Barrier { .. }) => split.pc.saturating_sub(1),
        _ => split.pc,
    };
    let site = warp.site(pc, split.mask.trailing_zeros());
    let (state, missing) = match &split.wait {
        None => match warp.asked.filter(|a| warp.executed - a.since < 64) {
            Some(a) => {
                let (what, missing) = bulk::missing(m, asyncs, residents, a.key);
                (format!("asks in vain for {what}"), missing)
            }
            None => ("runs".to_string(), String::new()),
        },
        Some(Wait::Converge) => (format!("waits for the rest of its warp ({})", others(m, warp, split)), String::new()),
        Some(Wait::Members(lanes)) => {
            (format!("waits for lanes {lanes:#010x} of its warp ({})", others(m, warp, split)), String::new())
        }
        Some(Wait::Barrier { id, .. }) => named(cta, *id),
        Some(Wait::ClusterBarrier { generation }) => cluster(residents, warp.slot, *generation),
        Some(Wait::Mbarrier { slot, offset, .. }) => {
            let (what, missing) = bulk::missing(m, asyncs, residents, (*slot, *offset));
            (format!("waits for {what}"), missing)
        }
        Some(Wait::Warpgroup { target }) => warpgroup(m, cta, warp, *target),
        Some(Wait::Registers { .. }) => (cta.registers.shortage(warp.index), String::new()),
        Some(Wait::Sleep { .. }) => ("sleeps".into(), String::new()),
    };
    let divided = matches!(split.wait, Some(Wait::Converge | Wait::Members(_)));
    let starved = matches!(split.wait, Some(Wait::Registers { .. }));
    Stand { site, lanes: split.mask, cta: cta.id, warp: warp.index, state, missing, divided, starved }
}

/// Where the other lanes of a warp are.
fn others(m: &Machine<'_>, warp: &Warp, split: &Split) -> String {
    let there = |s: &&Split| s.mask != split.mask;
    let places: Vec<String> = (warp.splits.iter().filter(there))
        .map(|s| format!("lanes {:#010x} are at PTX line {}", s.mask, m.kernel.program.line(s.pc).1))
        .collect();
    if places.is_empty() { format!("lanes {:#010x} have left", !warp.live) } else { places.join(", ") }
}

fn named(cta: &Cta, id: u32) -> (String, String) {
    let b = &cta.barriers[id as usize];
    let expected = b.expected(cta.alive);
    let state = format!("waits at barrier {id} ({} of {expected} threads have arrived)", b.arrived);
    let here = listed(b.warps.iter().map(|(w, ..)| w.to_string()));
    let came = |w: u32| b.warps.iter().any(|(there, ..)| *there == w);
    let absent: Vec<u32> = if b.before.is_empty() {
        (0..cta.warps.len() as u32).filter(|w| !came(*w)).collect()
    } else {
        b.before.iter().copied().filter(|w| !came(*w)).collect()
    };
    let ended = |w: &u32| if cta.warps[*w as usize].is_none() { format!("{w} (has ended)") } else { w.to_string() };
    let who = match (b.before.is_empty(), b.count) {
        (false, _) => "of those that came the last time, there are missing warps",
        (true, None) => "missing are warps",
        (true, Some(_)) => "not there are warps",
    };
    let missing = format!("barrier {id} of CTA {:?}: there are warps {here}; {who} {}", cta.id, listed(absent.iter().map(ended)));
    (state, missing)
}

fn cluster(residents: &Residents, slot: u32, generation: u64) -> (String, String) {
    let n = residents.cluster_ctas;
    let first = slot - slot % n;
    let mut missing = Vec::new();
    let barrier = residents.clusters[(slot / n) as usize].as_ref().map(|c| &c.barrier);
    for slot in first..first + n {
        let Some(cta) = &residents.ctas[slot as usize] else { continue };
        for warp in cta.warps.iter().flatten() {
            let came = |p: &&(u32, u32, u32, u64)| (p.0, p.1, p.3) == (slot, warp.index, generation);
            let lanes = barrier.iter().flat_map(|b| &b.pending).filter(came).fold(0, |all, p| all | p.2);
            if warp.live & !lanes != 0 {
                missing.push(format!("warp {} of CTA {:?}", warp.index, cta.id));
            }
        }
    }
    let arrived = barrier.map_or(0, |b| b.arrived);
    let missing = format!("barrier.cluster: {arrived} threads have arrived; missing are {}", listed(missing));
    ("waits at barrier.cluster".into(), missing)
}

fn warpgroup(m: &Machine<'_>, cta: &Cta, warp: &Warp, target: u64) -> (String, String) {
    let first = warp.index - warp.index % 4;
    let group = &cta.warpgroups[warp.index as usize / 4];
    let absent = group.warps.iter().zip(first..).filter(|(p, _)| p.issued < target).map(|(p, w)| {
        let next = p.issued.checked_sub(group.first).and_then(|i| group.queue.get(i as usize));
        let line = next.map(|p| format!(" (next that of PTX line {})", m.kernel.program.line(p.pc).1)).unwrap_or_default();
        format!("{w}{line}")
    });
    let missing = format!(
        "warpgroup {} of CTA {:?}: its {target} wgmma so far were not all issued by warps {}",
        warp.index / 4,
        cta.id,
        listed(absent)
    );
    ("waits for wgmma that other warps of its warpgroup have not issued".into(), missing)
}
