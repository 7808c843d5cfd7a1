//! Hostile Redis servers.

use super::tcp::{Server, tcp};
use std::{
    io::{self, BufRead, BufReader},
    net::TcpStream,
};

/// Starts a server that calls `answer` for each command, with the command's name in upper case.
///
/// # Panics
///
/// If no port is free.
#[must_use]
pub fn resp(
    answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Server {
    tcp(move |stream| {
        let mut commands = BufReader::new(stream.try_clone()?);
        while let Some(command) = read_command(&mut commands)? {
            answer(&command, stream)?;
        }
        Ok(())
    })
}

fn read_command(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let Some(count) = read_length(from, '*')? else { return Ok(None) };
    let mut name = None;
    for _ in 0..count {
        let length = read_length(from, '$')?.unwrap_or_default();
        let mut argument = vec![0; length + 2];
        from.read_exact(&mut argument)?;
        argument.truncate(length);
        name.get_or_insert_with(|| String::from_utf8_lossy(&argument).to_uppercase());
    }
    Ok(name)
}

fn read_length(from: &mut impl BufRead, sigil: char) -> io::Result<Option<usize>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().strip_prefix(sigil).and_then(|digits| digits.parse().ok()))
}
