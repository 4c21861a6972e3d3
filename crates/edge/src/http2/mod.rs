//! HTTP/2 from clients and to upstreams (RFC 9113): each stream is a request through the same pipeline as any other.
//!
//! Flow in names: `serve` (a connection) -> `request_head` (a stream's head) -> a [`Client`](crate::client::Client) whose socket is
//! the [`Stream`] -> the pipeline -> `response_head`, data. Towards upstreams: [`Pool`] -> [`Call`], whose response is read as any other. Frames,
//! header compression and flow control are the `h2` crate's.
//!
//! INVARIANT: what a stream's head says is written down as an HTTP/1 head and examined as one before anything else looks at it, so
//! that nothing can mean one thing here and another at an upstream.

mod call;
mod pool;

mod connection;
mod head;
mod meter;
pub mod print;
mod stream;
mod watch;

pub(crate) use call::Call;
pub(crate) use connection::{PREFACE, serve};
pub(crate) use head::request_head;
pub(crate) use pool::{Connecting, Pool};
pub(crate) use stream::Stream;
