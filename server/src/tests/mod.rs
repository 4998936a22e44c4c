//! The service from outside: real sockets, bytes written by hand, and a reader of answers that shares no code
//! with the service. The model is trained on noise: what it says does not matter, only that every client
//! hears it.

mod connections; // keep-alive, pipelining, slow clients, limits on connections
mod embed; // features
mod explain; // heat maps
mod inline; // networks that run on the threads that serve connections
mod labels; // a model that says any number of labels
mod load; // many clients at once, departed clients, overload, faults inside the model
mod models; // several models: loaded on demand, labels, pushed and put into a folder
mod openapi; // the description, and the table of routes
mod page; // the web page
mod predict; // every way to send an image
mod protocol; // hosts, expectations, what is refused before its body is sent
mod refusals; // one table of everything that is refused, and hostile bytes
mod requests; // every way that clients have of writing an image
mod shutdown; // what is in flight finishes
pub(crate) mod support;
mod v2; // the Open Inference Protocol
mod versions; // several versions: loaded once, gone back from, changed by nobody
