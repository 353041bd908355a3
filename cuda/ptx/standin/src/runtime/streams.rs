//! Streams and events. Work is done when it is asked for, so there is nothing to wait for; an event holds the host's time at which it
//! was recorded.

use crate::call::{Result, failure, offer};
use crate::device::{Event, Stream, Work, device, healthy, submit};
use crate::graph::Graph;
use crate::host;
use crate::status::Status;

/// A stream for the program.
pub fn create(out: *mut u64, flags: u32, priority: i32) -> Result {
    host::put(out, healthy(|d| Ok(d.streams.add(Stream { flags, priority, capture: None })))?)
}

/// Whether a stream can be waited for.
pub fn settled(stream: u64) -> Result {
    healthy(|d| match d.capture(stream)? {
        None => Ok(()),
        Some(_) => Err(failure(Status::STREAM_CAPTURE_UNSUPPORTED, "the stream is being captured")),
    })
}

/// Milliseconds between two events.
pub fn elapsed(start: u64, end: u64) -> Result<f32> {
    device(|d| {
        let at = |event: u64| {
            let unrecorded = || failure(Status::INVALID_HANDLE, "the event was not recorded");
            d.events.get(event)?.at.ok_or_else(unrecorded)
        };
        let (start, end) = (at(start)?, at(end)?);
        let forward = end.saturating_duration_since(start).as_secs_f64();
        Ok(((forward - start.saturating_duration_since(end).as_secs_f64()) * 1e3) as f32)
    })
}

/// An event for the program.
pub fn create_event(out: *mut u64) -> Result {
    host::put(out, healthy(|d| Ok(d.events.add(Event::default())))?)
}

/// Begins the capture of a stream into a new graph.
pub fn begin_capture(stream: u64) -> Result {
    healthy(|d| {
        if d.capture(stream)?.is_some() {
            return Err(failure(Status::ILLEGAL_STATE, "the stream is being captured already"));
        }
        let graph = d.graphs.add(Graph::default());
        d.set_capture(stream, Some(graph))
    })
}

/// Ends it: the graph.
pub fn end_capture(stream: u64) -> Result<u64> {
    healthy(|d| {
        let Some(graph) = d.capture(stream)? else {
            return Err(failure(Status::ILLEGAL_STATE, "the stream is not being captured"));
        };
        d.end_capture(graph);
        Ok(graph)
    })
}

/// What the program may know of a capture: whether there is one, its number, its graph.
pub fn capture_info(stream: u64, status: *mut u32, id: *mut u64, graph: *mut u64) -> Result {
    let capture = healthy(|d| d.capture(stream))?;
    host::put(status, u32::from(capture.is_some()))?;
    host::put_if(id, capture.unwrap_or(0));
    host::put_if(graph, capture.unwrap_or(0));
    Ok(())
}

/// The nodes that the next one comes after are not given out: there is no list of them to point to.
fn full_info(stream: u64, status: *mut u32, id: *mut u64, graph: *mut u64, after: *mut u64, count: *mut u64) -> Result {
    if !after.is_null() && healthy(|d| d.capture(stream))?.is_some() {
        return Err(failure(Status::NOT_SUPPORTED, "the dependencies of a capture are not offered"));
    }
    host::put_if(after, 0);
    host::put_if(count, 0);
    capture_info(stream, status, id, graph)
}

offer! { runtime;
    cudaStreamCreate(out: *mut u64) { create(out, 0, 0) }
    cudaStreamCreateWithFlags(out: *mut u64, flags: u32) { create(out, flags, 0) }
    cudaStreamCreateWithPriority(out: *mut u64, flags: u32, priority: i32) { create(out, flags, priority) }
    cudaStreamDestroy(stream: u64) { healthy(|d| d.streams.remove(stream).map(|_| ())) }
    cudaStreamSynchronize | cudaStreamSynchronize_ptsz | cudaStreamQuery | cudaStreamQuery_ptsz(stream: u64) { settled(stream) }
    cudaDeviceSynchronize | cudaCtxResetPersistingL2Cache() { settled(0) }
    cudaStreamWaitEvent | cudaStreamWaitEvent_ptsz(stream: u64, event: u64, _flags: u32) { healthy(|d| d.wait(stream, event)) }
    cudaStreamGetFlags | cudaStreamGetFlags_ptsz(stream: u64, out: *mut u32) {
        host::put(out, if stream <= 2 { 0 } else { healthy(|d| Ok(d.streams.get(stream)?.flags))? })
    }
    cudaStreamGetPriority | cudaStreamGetPriority_ptsz(stream: u64, out: *mut i32) {
        host::put(out, if stream <= 2 { 0 } else { healthy(|d| Ok(d.streams.get(stream)?.priority))? })
    }
    cudaStreamGetId | cudaStreamGetId_ptsz(stream: u64, out: *mut u64) { host::put(out, stream) }
    cudaStreamGetDevice | cudaStreamGetDevice_ptsz(_stream: u64, out: *mut i32) { host::put(out, 0) }
    cudaStreamSetAttribute | cudaStreamSetAttribute_ptsz | cudaStreamCopyAttributes | cudaStreamCopyAttributes_ptsz() {
        healthy(|_| Ok(()))
    }
    cudaDeviceGetStreamPriorityRange(least: *mut i32, greatest: *mut i32) {
        host::put_if(least, 0);
        host::put_if(greatest, -5);
        Ok(())
    }
    cudaLaunchHostFunc | cudaLaunchHostFunc_ptsz(stream: u64, function: u64, data: u64) {
        submit(stream, Work::Host(function, data))
    }
    cudaLaunchHostFunc_v2 | cudaLaunchHostFunc_v2_ptsz(stream: u64, function: u64, data: u64, _mode: u32) {
        submit(stream, Work::Host(function, data))
    }
    cudaStreamAddCallback | cudaStreamAddCallback_ptsz(stream: u64, function: u64, data: u64, _flags: u32) {
        settled(stream)?;
        host::call_stream(function, stream, 0, data);
        Ok(())
    }
    cudaStreamBeginCapture | cudaStreamBeginCapture_ptsz(stream: u64, _mode: u32) { begin_capture(stream) }
    cudaStreamEndCapture | cudaStreamEndCapture_ptsz(stream: u64, out: *mut u64) { host::put(out, end_capture(stream)?) }
    cudaStreamIsCapturing | cudaStreamIsCapturing_ptsz(stream: u64, status: *mut u32) {
        host::put(status, u32::from(healthy(|d| d.capture(stream))?.is_some()))
    }
    // With its edges, as CUDA 13 has it, and without.
    cudaStreamGetCaptureInfo | cudaStreamGetCaptureInfo_ptsz | cudaStreamGetCaptureInfo_v3 | cudaStreamGetCaptureInfo_v3_ptsz(
        stream: u64, status: *mut u32, id: *mut u64, graph: *mut u64, after: *mut u64, edges: *mut u64, count: *mut u64,
    ) {
        host::put_if(edges, 0);
        full_info(stream, status, id, graph, after, count)
    }
    cudaStreamGetCaptureInfo_v2 | cudaStreamGetCaptureInfo_v2_ptsz(
        stream: u64, status: *mut u32, id: *mut u64, graph: *mut u64, after: *mut u64, count: *mut u64,
    ) {
        full_info(stream, status, id, graph, after, count)
    }
    cudaThreadExchangeStreamCaptureMode(mode: *mut u32) {
        host::get(mode)?;
        host::put(mode, 0)
    }
    cudaEventCreate(out: *mut u64) { create_event(out) }
    cudaEventCreateWithFlags(out: *mut u64, _flags: u32) { create_event(out) }
    cudaEventRecord | cudaEventRecord_ptsz(event: u64, stream: u64) { submit(stream, Work::Record(event)) }
    cudaEventRecordWithFlags | cudaEventRecordWithFlags_ptsz(event: u64, stream: u64, _flags: u32) {
        submit(stream, Work::Record(event))
    }
    cudaEventQuery | cudaEventSynchronize(event: u64) { healthy(|d| d.events.get(event).map(|_| ())) }
    cudaEventDestroy(event: u64) { device(|d| d.events.remove(event).map(|_| ())) }
    cudaEventElapsedTime | cudaEventElapsedTime_v2(out: *mut f32, start: u64, end: u64) { host::put(out, elapsed(start, end)?) }
}
