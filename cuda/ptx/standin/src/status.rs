//! What a call returns: the numbers that the driver and the runtime share, with their names in both.

/// A `cudaError_t` or `CUresult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

/// A row: number, the runtime's name, the driver's name, what it means.
type Row = (i32, &'static str, &'static str, &'static str);

macro_rules! statuses {
    (@constant _ $number:literal) => {};
    (@constant $constant:ident $number:literal) => {
        pub const $constant: Status = Status($number);
    };
    ($($constant:tt = $number:literal, $runtime:literal, $driver:literal, $text:literal;)*) => {
        impl Status {
            $(statuses!(@constant $constant $number);)*
        }
        /// With the end of a C string on each name.
        const ROWS: &[Row] = &[$(($number, concat!($runtime, "\0"), concat!($driver, "\0"), concat!($text, "\0")),)*];
    };
}

statuses! {
    _ = 0, "cudaSuccess", "CUDA_SUCCESS", "no error";
    INVALID_VALUE = 1, "cudaErrorInvalidValue", "CUDA_ERROR_INVALID_VALUE", "invalid argument";
    OUT_OF_MEMORY = 2, "cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory";
    _ = 3, "cudaErrorInitializationError", "CUDA_ERROR_NOT_INITIALIZED", "initialization error";
    INVALID_CONFIGURATION = 9, "cudaErrorInvalidConfiguration", "CUDA_ERROR_INVALID_VALUE", "invalid configuration argument";
    INVALID_PITCH = 12, "cudaErrorInvalidPitchValue", "CUDA_ERROR_INVALID_VALUE", "invalid pitch argument";
    INVALID_SYMBOL = 13, "cudaErrorInvalidSymbol", "CUDA_ERROR_NOT_FOUND", "invalid device symbol";
    MISSING_CONFIGURATION = 52, "cudaErrorMissingConfiguration", "CUDA_ERROR_INVALID_VALUE", "launch without a configuration";
    INVALID_DEVICE_FUNCTION = 98, "cudaErrorInvalidDeviceFunction", "CUDA_ERROR_NOT_FOUND", "invalid device function";
    INVALID_DEVICE = 101, "cudaErrorInvalidDevice", "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal";
    INVALID_IMAGE = 200, "cudaErrorInvalidKernelImage", "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid";
    INVALID_CONTEXT = 201, "cudaErrorDeviceUninitialized", "CUDA_ERROR_INVALID_CONTEXT", "invalid device context";
    NO_BINARY = 209, "cudaErrorNoKernelImageForDevice", "CUDA_ERROR_NO_BINARY_FOR_GPU",
        "no kernel image is available for execution on the device";
    UNSUPPORTED_LIMIT = 215, "cudaErrorUnsupportedLimit", "CUDA_ERROR_UNSUPPORTED_LIMIT", "limit is not supported";
    INVALID_PTX = 218, "cudaErrorInvalidPtx", "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed";
    FILE_NOT_FOUND = 301, "cudaErrorFileNotFound", "CUDA_ERROR_FILE_NOT_FOUND", "file not found";
    INVALID_HANDLE = 400, "cudaErrorInvalidResourceHandle", "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle";
    NOT_FOUND = 500, "cudaErrorSymbolNotFound", "CUDA_ERROR_NOT_FOUND", "named symbol not found";
    _ = 600, "cudaErrorNotReady", "CUDA_ERROR_NOT_READY", "device not ready";
    ILLEGAL_ADDRESS = 700, "cudaErrorIllegalAddress", "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered";
    _ = 701, "cudaErrorLaunchOutOfResources", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        "too many resources requested for launch";
    LAUNCH_TIMEOUT = 702, "cudaErrorLaunchTimeout", "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated";
    _ = 705, "cudaErrorPeerAccessNotEnabled", "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED",
        "peer access has not been enabled";
    ASSERT = 710, "cudaErrorAssert", "CUDA_ERROR_ASSERT", "device-side assert triggered";
    HOST_MEMORY_NOT_REGISTERED = 713, "cudaErrorHostMemoryNotRegistered", "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
        "pointer does not correspond to a registered memory region";
    ILLEGAL_INSTRUCTION = 715, "cudaErrorIllegalInstruction", "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "an illegal instruction was encountered";
    MISALIGNED_ADDRESS = 716, "cudaErrorMisalignedAddress", "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address";
    LAUNCH_FAILED = 719, "cudaErrorLaunchFailure", "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure";
    COOPERATIVE_LAUNCH_TOO_LARGE = 720, "cudaErrorCooperativeLaunchTooLarge", "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE",
        "too many blocks in cooperative launch";
    NOT_SUPPORTED = 801, "cudaErrorNotSupported", "CUDA_ERROR_NOT_SUPPORTED", "operation not supported";
    STREAM_CAPTURE_UNSUPPORTED = 900, "cudaErrorStreamCaptureUnsupported", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        "operation not permitted when stream is capturing";
    ILLEGAL_STATE = 401, "cudaErrorIllegalState", "CUDA_ERROR_ILLEGAL_STATE",
        "the operation cannot be performed in the present state";
    GRAPH_UPDATE_FAILURE = 910, "cudaErrorGraphExecUpdateFailure", "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE",
        "the graph update was not performed because it included changes which violated constraints specific to instantiated graph update";
    INVALID_CLUSTER_SIZE = 912, "cudaErrorInvalidClusterSize", "CUDA_ERROR_INVALID_CLUSTER_SIZE",
        "the cluster configuration is invalid";
    UNKNOWN = 999, "cudaErrorUnknown", "CUDA_ERROR_UNKNOWN", "unknown error";
}

impl Status {
    fn row(self) -> Option<&'static Row> {
        ROWS.iter().find(|r| r.0 == self.0)
    }

    /// Its name in the runtime, ended by a NUL.
    pub fn runtime_name(self) -> &'static str {
        self.row().map_or("unrecognized error code\0", |r| r.1)
    }

    /// Its name in the driver, ended by a NUL; `None` if this library never gives it.
    pub fn driver_name(self) -> Option<&'static str> {
        self.row().map(|r| r.2)
    }

    /// What it means, ended by a NUL; `None` if this library never gives it.
    pub fn driver_text(self) -> Option<&'static str> {
        self.row().map(|r| r.3)
    }

    /// What it means, ended by a NUL.
    pub fn text(self) -> &'static str {
        self.row().map_or("unrecognized error code\0", |r| r.3)
    }
}
