//! Graphs: work that is kept, and done again in the order of its dependencies.

use std::collections::HashSet;

use crate::call::{Result, failure};
use crate::device::Work;
use crate::status::Status;

/// A piece of work in a graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What the program calls it.
    pub id: u64,
    pub work: Work,
    /// The nodes that come before it.
    pub after: Vec<u64>,
    pub enabled: bool,
}

/// Nodes in the order in which they were added, or, of one that was instantiated, in which they are done.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
}

/// Numbers of nodes are never given twice in a process.
fn fresh() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    7 << 36 | NEXT.fetch_add(1, Ordering::Relaxed) << 4
}

impl Graph {
    /// Adds work after that of other nodes.
    pub fn add(&mut self, work: Work, after: Vec<u64>) -> Result<u64> {
        if let Some(unknown) = after.iter().find(|id| !self.nodes.iter().any(|n| n.id == **id)) {
            return Err(failure(Status::INVALID_VALUE, format!("{unknown:#x} is no node of this graph")));
        }
        let id = fresh();
        self.nodes.push(Node { id, work, after, enabled: true });
        Ok(id)
    }

    /// Adds work after all that is there: what a capture does, since streams are in order with each other.
    pub fn append(&mut self, work: Work) {
        let after = self.nodes.last().map(|n| n.id).into_iter().collect();
        self.nodes.push(Node { id: fresh(), work, after, enabled: true });
    }

    /// A node by its number.
    pub fn node(&mut self, id: u64) -> Result<&mut Node> {
        let unknown = || failure(Status::INVALID_VALUE, format!("{id:#x} is no node of this graph"));
        self.nodes.iter_mut().find(|n| n.id == id).ok_or_else(unknown)
    }

    /// The nodes in an order that keeps every dependency; of those that are free, the one that was added first.
    pub fn ordered(&self) -> Result<Graph> {
        let mut done = HashSet::new();
        let mut left: Vec<&Node> = self.nodes.iter().collect();
        let mut nodes = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let free = left.iter().position(|n| n.after.iter().all(|id| done.contains(id)));
            let Some(free) = free else { return Err(failure(Status::INVALID_VALUE, "the graph has a cycle")) };
            let node = left.remove(free);
            done.insert(node.id);
            nodes.push(node.clone());
        }
        Ok(Graph { nodes })
    }
}
