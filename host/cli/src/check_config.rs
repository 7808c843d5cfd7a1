//! Command `host check`: validates a configuration file, and reads each source once with `--online`.

use crate::{
    cli_error::CliError,
    invalid_config::invalid_config,
    log_and_cache_args::CommonArgs,
    start_plugin_host::start_plugin_host,
    stdout::{print, table},
};
use clap::Args;
use reloader_app::SourceCheck;
use reloader_plugin_runtime::Limits;
use reloader_util::sanitize::sanitize;
use std::{
    io::{Write as _, stderr},
    path::PathBuf,
};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "reloader.toml")]
    config: PathBuf,
    /// Also read each source once, and report the results
    #[arg(long)]
    online: bool,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// Time limit for the read of each source (with `--online`)
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "online")]
    timeout: reloader_util::units::Time,
}

impl CheckArgs {
    pub(crate) async fn execute(self, common: &CommonArgs) -> Result<(), CliError> {
        let runtime = start_plugin_host(common, Limits::default())?;
        let checked = reloader_app::check(&runtime, &self.config).await;
        let (config, prepared) = checked.map_err(|error| invalid_config(&error))?;
        let warnings = reloader_app::preflight_warnings(&config);
        for warning in &warnings {
            // A closed stderr does not fail the check, so the write error is ignored.
            let _ = writeln!(stderr().lock(), "warning: {}", sanitize(warning));
        }
        if self.strict && !warnings.is_empty() {
            return Err(CliError::Reported(2));
        }
        let sinks = config.sources.iter().map(|source| source.sinks.len()).sum::<usize>()
            + config.groups.iter().map(|group| group.sinks.len()).sum::<usize>();
        let path = config.path.display();
        let count = |number: usize, noun: &str| {
            format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
        };
        if !self.online {
            let summary = match warnings.len() {
                0 => "OK".into(),
                number => format!("OK, {}", count(number, "warning")),
            };
            let text = format!(
                "{path}: {summary} ({}, {})\n",
                count(config.sources.len(), "source"),
                count(sinks, "sink")
            );
            return print(text.as_bytes());
        }
        let checks = reloader_app::check_online(&prepared, self.timeout.0).await;
        let mut table = table();
        table.set_header(["source", "plugin", "duration", "result"]);
        let mut failed = 0;
        for SourceCheck { name, plugin, took, answer } in checks {
            let duration = format!("{:.0} ms", took.as_secs_f64() * 1e3);
            let result = match answer {
                Ok(size) => format!("{size} bytes"),
                Err(error) => {
                    failed += 1;
                    format!("failed: {error}")
                }
            };
            table.add_row([name, plugin, duration, result]);
        }
        print(format!("{}\n", table.trim_fmt()).as_bytes())?;
        if failed > 0 {
            let failed = count(failed, "source");
            return Err(CliError::Runtime(format!("read failed for {failed}")));
        }
        Ok(())
    }
}
