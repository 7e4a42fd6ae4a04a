"""The console command `sasrec`; each subcommand is a module with a `main`."""
