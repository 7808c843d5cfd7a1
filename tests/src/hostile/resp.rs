//! A Redis server that answers whatever it is told to.

use super::{Server, tcp};
use std::{
    io::{self, BufRead, BufReader},
    net::TcpStream,
};

/// Answers each command: it is given in capitals, and without its arguments.
///
/// # Panics
///
/// When there is no port left.
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
    let Some(count) = number(from, '*')? else { return Ok(None) };
    let mut name = None;
    for _ in 0..count {
        let length = number(from, '$')?.unwrap_or_default();
        let mut argument = vec![0; length + 2];
        from.read_exact(&mut argument)?;
        argument.truncate(length);
        name.get_or_insert_with(|| String::from_utf8_lossy(&argument).to_uppercase());
    }
    Ok(name)
}

fn number(from: &mut impl BufRead, sigil: char) -> io::Result<Option<usize>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().strip_prefix(sigil).and_then(|digits| digits.parse().ok()))
}
