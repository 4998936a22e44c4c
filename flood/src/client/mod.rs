//! What goes to a service and what comes back: its address, images, requests, and one connection.

pub(crate) mod bodies;
pub(crate) mod connection;
pub(crate) mod images;
pub(crate) mod target;
