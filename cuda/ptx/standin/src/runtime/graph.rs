//! Graphs.

use crate::call::{Result, failure, offer};
use crate::device::{Work, healthy, submit};
use crate::graph::Graph;
use crate::host;
use crate::launch::Request;
use crate::memory::{Copy, Fill};
use crate::status::Status;
use crate::types::{HostNodeParams, KernelNodeParams, Memcpy3D, MemsetParams};

use super::memory::{box_of, part_of_symbol};

/// Adds work to a graph after that of `count` nodes.
fn add(out: *mut u64, graph: u64, after: *const u64, count: u64, work: Work) -> Result {
    let after = host::list(after, count as usize)?;
    host::put(out, healthy(|d| d.graphs.get_mut(graph)?.add(work, after))?)
}

/// Work of a kernel's node.
fn kernel(parameters: *const KernelNodeParams) -> Result<Work> {
    let p = host::get(parameters)?;
    if p.params.is_null() && !p.extra.is_null() {
        return Err(failure(Status::NOT_SUPPORTED, "a kernel's node with `extra` is not offered"));
    }
    healthy(|d| {
        let kernel = d.modules.find(p.function)?;
        let params = d.params(kernel, p.params)?;
        let (grid, block) = (p.grid.array(), p.block.array());
        Ok(Work::Launch(Request {
            kernel,
            grid,
            block,
            cluster: [1, 1, 1],
            shared_bytes: p.shared_bytes,
            cooperative: false,
            dependent: false,
            params,
        }))
    })
}

fn fill(parameters: *const MemsetParams) -> Result<Work> {
    let p = host::get(parameters)?;
    if ![1, 2, 4].contains(&p.element) {
        return Err(failure(Status::INVALID_VALUE, format!("elements of {} bytes", p.element)));
    }
    let extent = [p.width, p.height, 1];
    Ok(Work::Fill(Fill { to: p.to, value: p.value, element: p.element as usize, pitch: [p.pitch, p.pitch * p.height], extent }))
}

fn function(parameters: *const HostNodeParams) -> Result<Work> {
    let p = host::get(parameters)?;
    Ok(Work::Host(p.function, p.data))
}

/// Changes the work of a node, which must be of the same kind.
fn replace(graph: u64, node: u64, work: Work) -> Result {
    healthy(|d| {
        let node = d.graphs.get_mut(graph)?.node(node)?;
        if std::mem::discriminant(&node.work) != std::mem::discriminant(&work) {
            return Err(failure(Status::INVALID_VALUE, "the node does other work"));
        }
        node.work = work;
        Ok(())
    })
}

/// The graph that a node belongs to, of those that were not instantiated.
fn home(node: u64) -> Result<u64> {
    healthy(|d| d.graphs.find(|g| g.nodes.iter().any(|n| n.id == node)).ok_or_else(|| Status::INVALID_VALUE.into()))
}

/// A graph in the order in which it will be done.
pub fn instantiate(graph: u64) -> Result<u64> {
    healthy(|d| {
        let ordered = d.graphs.get(graph)?.ordered()?;
        Ok(d.graphs.add(ordered))
    })
}

/// Gives a graph's work to a stream.
pub fn launch(graph: u64, stream: u64) -> Result {
    let nodes = healthy(|d| Ok(d.graphs.get(graph)?.nodes.clone()))?;
    submit(stream, Work::Graph(nodes))
}

/// Takes over another graph's work, if it has the same shape: whether it did.
fn update(instance: u64, graph: u64) -> Result<bool> {
    healthy(|d| {
        let new = d.graphs.get(graph)?.ordered()?;
        let old = d.graphs.get_mut(instance)?;
        let same = old.nodes.len() == new.nodes.len()
            && old.nodes.iter().zip(&new.nodes).all(|(a, b)| std::mem::discriminant(&a.work) == std::mem::discriminant(&b.work));
        if same {
            for (old, new) in old.nodes.iter_mut().zip(new.nodes) {
                old.work = new.work;
            }
        }
        Ok(same)
    })
}

/// Numbers into a list of the program's, or how many there are where it has none.
fn give(all: &[u64], out: *mut u64, count: *mut u64) -> Result {
    if !out.is_null() {
        let room = host::get(count)? as usize;
        for (i, &id) in all.iter().take(room).enumerate() {
            host::put(out.wrapping_add(i), id)?;
        }
    }
    host::put(count, all.len() as u64)
}

offer! { runtime;
    cudaGraphCreate(out: *mut u64, _flags: u32) { host::put(out, healthy(|d| Ok(d.graphs.add(Graph::default())))?) }
    cudaGraphClone(out: *mut u64, graph: u64) {
        host::put(out, healthy(|d| { let copy = d.graphs.get(graph)?.clone(); Ok(d.graphs.add(copy)) })?)
    }
    cudaGraphDestroy | cudaGraphExecDestroy(graph: u64) { healthy(|d| d.graphs.remove(graph).map(|_| ())) }
    cudaGraphInstantiate | cudaGraphInstantiateWithFlags(out: *mut u64, graph: u64, _flags: u64) {
        host::put(out, instantiate(graph)?)
    }
    cudaGraphLaunch | cudaGraphLaunch_ptsz(graph: u64, stream: u64) { launch(graph, stream) }
    cudaGraphUpload | cudaGraphUpload_ptsz(graph: u64, _stream: u64) { healthy(|d| d.graphs.get(graph).map(|_| ())) }
    // The result begins with a word that is 0 for success and 4 for another topology.
    cudaGraphExecUpdate(instance: u64, graph: u64, result: *mut u32) {
        let same = update(instance, graph)?;
        host::put_if(result, if same { 0 } else { 3 });
        if same { Ok(()) } else { Err(Status::GRAPH_UPDATE_FAILURE.into()) }
    }
    cudaGraphAddKernelNode(out: *mut u64, graph: u64, after: *const u64, count: u64, parameters: *const KernelNodeParams) {
        add(out, graph, after, count, kernel(parameters)?)
    }
    cudaGraphAddMemcpyNode(out: *mut u64, graph: u64, after: *const u64, count: u64, parameters: *const Memcpy3D) {
        add(out, graph, after, count, Work::Copy(box_of(parameters)?))
    }
    cudaGraphAddMemcpyNode1D(out: *mut u64, graph: u64, after: *const u64, count: u64, to: u64, from: u64, bytes: u64, kind: u32) {
        add(out, graph, after, count, Work::Copy(Copy::line(to, from, bytes, kind)))
    }
    cudaGraphAddMemcpyNodeToSymbol(
        out: *mut u64, graph: u64, after: *const u64, count: u64, variable: u64, from: u64, bytes: u64, offset: u64, kind: u32,
    ) {
        add(out, graph, after, count, Work::Copy(Copy::line(part_of_symbol(variable, offset, bytes)?, from, bytes, kind)))
    }
    cudaGraphAddMemcpyNodeFromSymbol(
        out: *mut u64, graph: u64, after: *const u64, count: u64, to: u64, variable: u64, bytes: u64, offset: u64, kind: u32,
    ) {
        add(out, graph, after, count, Work::Copy(Copy::line(to, part_of_symbol(variable, offset, bytes)?, bytes, kind)))
    }
    cudaGraphAddMemsetNode(out: *mut u64, graph: u64, after: *const u64, count: u64, parameters: *const MemsetParams) {
        add(out, graph, after, count, fill(parameters)?)
    }
    cudaGraphAddHostNode(out: *mut u64, graph: u64, after: *const u64, count: u64, parameters: *const HostNodeParams) {
        add(out, graph, after, count, function(parameters)?)
    }
    cudaGraphAddEventRecordNode(out: *mut u64, graph: u64, after: *const u64, count: u64, event: u64) {
        add(out, graph, after, count, Work::Record(event))
    }
    cudaGraphAddEmptyNode(out: *mut u64, graph: u64, after: *const u64, count: u64) { add(out, graph, after, count, Work::Nothing) }
    cudaGraphAddEventWaitNode(out: *mut u64, graph: u64, after: *const u64, count: u64, _event: u64) {
        add(out, graph, after, count, Work::Nothing)
    }
    cudaGraphAddChildGraphNode(out: *mut u64, graph: u64, after: *const u64, count: u64, child: u64) {
        let nodes = healthy(|d| Ok(d.graphs.get(child)?.ordered()?.nodes))?;
        add(out, graph, after, count, Work::Graph(nodes))
    }
    cudaGraphAddDependencies(graph: u64, from: *const u64, to: *const u64, fourth: u64, fifth: u64) {
        // CUDA 13 passes data of the edges in between.
        let count = if super::device::version() >= 13_000 { fifth } else { fourth };
        let (from, to) = (host::list(from, count as usize)?, host::list(to, count as usize)?);
        healthy(|d| {
            let graph = d.graphs.get_mut(graph)?;
            for (from, to) in from.into_iter().zip(to) {
                graph.node(from)?;
                graph.node(to)?.after.push(from);
            }
            Ok(())
        })
    }
    cudaGraphGetNodes(graph: u64, out: *mut u64, count: *mut u64) {
        give(&healthy(|d| Ok(d.graphs.get(graph)?.nodes.iter().map(|n| n.id).collect::<Vec<_>>()))?, out, count)
    }
    cudaGraphGetRootNodes(graph: u64, out: *mut u64, count: *mut u64) {
        let roots = |g: &Graph| g.nodes.iter().filter(|n| n.after.is_empty()).map(|n| n.id).collect::<Vec<_>>();
        give(&healthy(|d| Ok(roots(d.graphs.get(graph)?)))?, out, count)
    }
    // The numbers of `cudaGraphNodeType`.
    cudaGraphNodeGetType(node: u64, out: *mut u32) {
        let graph = home(node)?;
        let kind = healthy(|d| Ok(match d.graphs.get_mut(graph)?.node(node)?.work {
            Work::Launch(_) => 0,
            Work::Copy(_) => 1,
            Work::Fill(_) => 2,
            Work::Host(..) => 3,
            Work::Graph(_) => 4,
            Work::Nothing => 5,
            Work::Record(_) => 7,
        }))?;
        host::put(out, kind)
    }
    cudaGraphNodeSetEnabled(instance: u64, node: u64, enabled: u32) {
        healthy(|d| { d.graphs.get_mut(instance)?.node(node)?.enabled = enabled != 0; Ok(()) })
    }
    cudaGraphNodeGetEnabled(instance: u64, node: u64, out: *mut u32) {
        host::put(out, healthy(|d| Ok(u32::from(d.graphs.get_mut(instance)?.node(node)?.enabled)))?)
    }
    cudaGraphKernelNodeSetParams(node: u64, parameters: *const KernelNodeParams) {
        replace(home(node)?, node, kernel(parameters)?)
    }
    cudaGraphExecKernelNodeSetParams(instance: u64, node: u64, parameters: *const KernelNodeParams) {
        replace(instance, node, kernel(parameters)?)
    }
    cudaGraphExecMemcpyNodeSetParams1D(instance: u64, node: u64, to: u64, from: u64, bytes: u64, kind: u32) {
        replace(instance, node, Work::Copy(Copy::line(to, from, bytes, kind)))
    }
    cudaGraphExecMemsetNodeSetParams(instance: u64, node: u64, parameters: *const MemsetParams) {
        replace(instance, node, fill(parameters)?)
    }
    cudaGraphExecHostNodeSetParams(instance: u64, node: u64, parameters: *const HostNodeParams) {
        replace(instance, node, function(parameters)?)
    }
}
