//! ZIP archives (APPNOTE 6.3.10), read in place: nothing is ever unpacked, so names lead nowhere.
//!
//! There are two readers. [`ZipFolder`] is for the user's own archives: it leaves out what looks odd and says so.
//! [`UploadZip`](upload::UploadZip) is for those of people we do not know: what two programs could read in two ways is
//! refused. They share the fields of the records ([`records`]) and the text of names ([`names`], which asks
//! [`code_pages`] and [`sense`]). An inflater is all they need beside; a library for archives hides what both have to
//! see: names as bytes, entries that share a name, records that are more than the end record counts.

mod code_pages;
mod folder;
mod formats;
mod inflate;
mod names;
mod records;
mod sense;
pub(crate) mod upload;

pub(crate) use folder::{Listing, ZipFolder};
pub(crate) use formats::{HEAD_BYTES, other_archive};
