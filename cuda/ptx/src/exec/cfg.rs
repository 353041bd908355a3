//! Control flow: where the sides of a branch meet again.
//!
//! The meeting point is the branch's immediate post-dominator, taken over the paths that go on: a lane that traps or leaves the
//! kernel early waits for nobody and nobody waits for it, so such paths are left out.

use super::control::Transfer;
use super::op::{Inst, Op};
use crate::ir::NO_PC;

/// A basic block: instructions `start..end` and the blocks that may follow.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    start: usize,
    end: usize,
    next: Vec<usize>,
}

/// Turns label numbers into absolute targets (`labels` are relative to the function, which will lie at `base`) and finds the
/// meeting point of each branch.
pub fn link(code: &mut [Inst], labels: &[u32], base: u32) {
    for inst in code.iter_mut() {
        if let Op::Transfer(op) = &mut inst.op {
            op.targets_mut().iter_mut().for_each(|t| *t = labels[*t as usize]);
        }
    }
    let blocks = blocks(code);
    let joins = meeting_points(code, &blocks);
    for (block, meet) in blocks.iter().zip(joins) {
        let meet = meet.map_or(NO_PC, |m| base + blocks[m].start as u32);
        if let Op::Transfer(op) = &mut code[block.end - 1].op {
            op.targets_mut().iter_mut().for_each(|t| *t += base);
            op.set_join(meet);
        }
    }
}

fn unguarded(inst: &Inst) -> bool {
    inst.guard.index == u16::MAX
}

fn blocks(code: &[Inst]) -> Vec<Block> {
    let mut leader = vec![false; code.len() + 1];
    leader[0] = true;
    for (pc, inst) in code.iter().enumerate() {
        let Op::Transfer(op) = &inst.op else { continue };
        op.targets().iter().for_each(|t| leader[*t as usize] = true);
        leader[pc + 1] = true;
    }
    let starts: Vec<usize> = (0..code.len()).filter(|&pc| leader[pc]).collect();
    let mut index = vec![0; code.len() + 1];
    for (b, &s) in starts.iter().enumerate() {
        index[s] = b;
    }
    let mut blocks = Vec::with_capacity(starts.len());
    for (b, &start) in starts.iter().enumerate() {
        let end = starts.get(b + 1).copied().unwrap_or(code.len());
        let last = &code[end - 1];
        let mut next = Vec::new();
        let stops = if let Op::Transfer(op) = &last.op {
            next.extend(op.targets().iter().map(|t| index[*t as usize]));
            true
        } else {
            false
        };
        if end < code.len() && !(stops && unguarded(last)) {
            next.push(b + 1);
        }
        next.sort_unstable();
        next.dedup();
        blocks.push(Block { start, end, next });
    }
    blocks
}

/// For each block the block where its successors' paths meet, if any.
fn meeting_points(code: &[Inst], blocks: &[Block]) -> Vec<Option<usize>> {
    let n = blocks.len();
    // The function's end is node n. Every `ret` of a function leads there; of a kernel's exits, only the last.
    let mut next: Vec<Vec<usize>> = blocks.iter().map(|b| b.next.clone()).collect();
    let exits: Vec<usize> =
        (0..n).filter(|&b| matches!(code[blocks[b].end - 1].op, Op::Transfer(Transfer::Return | Transfer::Exit))).collect();
    for (i, &b) in exits.iter().enumerate() {
        let kernel = matches!(code[blocks[b].end - 1].op, Op::Transfer(Transfer::Exit));
        // The implicit exit after the last statement is only an exit if something reaches it.
        let reached = |b: usize| b == 0 || blocks.iter().any(|x| x.next.contains(&b));
        let last_reached = exits[i + 1..].iter().all(|&x| !reached(x));
        if !kernel || (reached(b) && last_reached) {
            next[b].push(n);
        }
    }
    let mut previous: Vec<Vec<usize>> = vec![Vec::new(); n + 1];
    for (b, list) in next.iter().enumerate() {
        for &s in list {
            previous[s].push(b);
        }
    }
    // Post-order of the reversed graph, from the end.
    let mut order = Vec::with_capacity(n + 1);
    let mut seen = vec![false; n + 1];
    let mut stack = vec![(n, 0)];
    seen[n] = true;
    while let Some((b, i)) = stack.pop() {
        if let Some(&p) = previous[b].get(i) {
            stack.push((b, i + 1));
            if !seen[p] {
                seen[p] = true;
                stack.push((p, 0));
            }
        } else {
            order.push(b);
        }
    }
    let mut rank = vec![usize::MAX; n + 1];
    for (i, &b) in order.iter().enumerate() {
        rank[b] = i;
    }
    let mut idom: Vec<Option<usize>> = vec![None; n + 1];
    idom[n] = Some(n);
    loop {
        let mut changed = false;
        for &b in order.iter().rev().filter(|&&b| b != n) {
            let mut found: Option<usize> = None;
            for &s in &next[b] {
                if idom[s].is_none() {
                    continue;
                }
                found = Some(match found {
                    None => s,
                    Some(mut x) => {
                        let mut y = s;
                        while x != y {
                            while rank[x] < rank[y] {
                                x = idom[x].expect("a processed node");
                            }
                            while rank[y] < rank[x] {
                                y = idom[y].expect("a processed node");
                            }
                        }
                        x
                    }
                });
            }
            if found.is_some() && idom[b] != found {
                idom[b] = found;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    (0..n).map(|b| idom[b].filter(|&m| m != n)).collect()
}
