//! `create`: an empty container.

use super::args;
use super::exit;
use super::output::Output;
use crate::error::{Result, Within};
use crate::formats::st;
use std::io::BufWriter;

pub fn create(given: &args::Create) -> Result<u8> {
    let output = Output::create(&given.file, given.force)?;
    let mut out = BufWriter::new(&output.file);
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    st::create(&mut out, owner, None).within(|| given.file.display())?;
    drop(out);
    output.commit()?;
    Ok(exit::OK)
}
