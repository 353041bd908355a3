//! Streams, events and graphs of captured work.

use crate::call::offer;
use crate::device::{Work, device, healthy, submit};
use crate::host;
use crate::runtime::streams::{begin_capture, capture_info, create, create_event, elapsed, end_capture, settled};
use crate::runtime::{instantiate, launch_graph};

offer! { driver;
    cuStreamCreate(out: *mut u64, flags: u32) { create(out, flags, 0) }
    cuStreamCreateWithPriority(out: *mut u64, flags: u32, priority: i32) { create(out, flags, priority) }
    cuStreamDestroy_v2(stream: u64) { healthy(|d| d.streams.remove(stream).map(|_| ())) }
    cuStreamSynchronize | cuStreamSynchronize_ptsz | cuStreamQuery | cuStreamQuery_ptsz(stream: u64) { settled(stream) }
    cuStreamWaitEvent | cuStreamWaitEvent_ptsz(stream: u64, event: u64, _flags: u32) { healthy(|d| d.wait(stream, event)) }
    cuStreamGetFlags | cuStreamGetFlags_ptsz(stream: u64, out: *mut u32) {
        host::put(out, if stream <= 2 { 0 } else { healthy(|d| Ok(d.streams.get(stream)?.flags))? })
    }
    cuStreamGetPriority | cuStreamGetPriority_ptsz(stream: u64, out: *mut i32) {
        host::put(out, if stream <= 2 { 0 } else { healthy(|d| Ok(d.streams.get(stream)?.priority))? })
    }
    cuStreamGetId | cuStreamGetId_ptsz(stream: u64, out: *mut u64) { host::put(out, stream) }
    cuLaunchHostFunc | cuLaunchHostFunc_ptsz(stream: u64, function: u64, data: u64) { submit(stream, Work::Host(function, data)) }
    cuStreamAddCallback | cuStreamAddCallback_ptsz(stream: u64, function: u64, data: u64, _flags: u32) {
        settled(stream)?;
        host::call_stream(function, stream, 0, data);
        Ok(())
    }
    cuStreamBeginCapture_v2 | cuStreamBeginCapture_v2_ptsz(stream: u64, _mode: u32) { begin_capture(stream) }
    cuStreamEndCapture | cuStreamEndCapture_ptsz(stream: u64, out: *mut u64) { host::put(out, end_capture(stream)?) }
    cuStreamIsCapturing | cuStreamIsCapturing_ptsz(stream: u64, status: *mut u32) {
        capture_info(stream, status, std::ptr::null_mut(), std::ptr::null_mut())
    }
    cuThreadExchangeStreamCaptureMode(mode: *mut u32) {
        host::get(mode)?;
        host::put(mode, 0)
    }
    cuEventCreate(out: *mut u64, _flags: u32) { create_event(out) }
    cuEventRecord | cuEventRecord_ptsz(event: u64, stream: u64) { submit(stream, Work::Record(event)) }
    cuEventRecordWithFlags | cuEventRecordWithFlags_ptsz(event: u64, stream: u64, _flags: u32) {
        submit(stream, Work::Record(event))
    }
    cuEventQuery | cuEventSynchronize(event: u64) { healthy(|d| d.events.get(event).map(|_| ())) }
    cuEventDestroy_v2(event: u64) { device(|d| d.events.remove(event).map(|_| ())) }
    cuEventElapsedTime | cuEventElapsedTime_v2(out: *mut f32, start: u64, end: u64) { host::put(out, elapsed(start, end)?) }
    cuGraphInstantiateWithFlags(out: *mut u64, graph: u64, _flags: u64) { host::put(out, instantiate(graph)?) }
    cuGraphLaunch | cuGraphLaunch_ptsz(graph: u64, stream: u64) { launch_graph(graph, stream) }
    cuGraphUpload | cuGraphUpload_ptsz(graph: u64, _stream: u64) { healthy(|d| d.graphs.get(graph).map(|_| ())) }
    cuGraphDestroy | cuGraphExecDestroy(graph: u64) { healthy(|d| d.graphs.remove(graph).map(|_| ())) }
}
