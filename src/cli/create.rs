//! `create`: an empty container.

use super::args;
use super::exit;
use super::output::Output;
use super::plan;
use crate::error::{Result, Within};
use crate::formats::st;
use crate::open;
use std::io::BufWriter;

pub fn create(given: &args::Create) -> Result<u8> {
    let (encrypt, parity) = (given.encrypt.as_ref(), plan::parity(&given.parity)?);
    let seal = if given.sealing.is_wanted(encrypt)? { Some(given.sealing.seal(encrypt)?) } else { None };
    let signing = plan::signing(&given.signing)?;
    let output = Output::create(&given.file, given.force)?;
    let mut out = BufWriter::new(&output.file);
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    st::create(&mut out, owner, seal.as_ref(), (parity, &signing)).within(|| given.file.display())?;
    drop(out);
    output.commit()?;
    if signing.key().is_some() {
        open::remember(&given.file, &plan::how_with(&args::Passwords::default())?, true)?;
    }
    Ok(exit::OK)
}
