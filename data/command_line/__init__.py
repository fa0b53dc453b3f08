"""The command `reelbank`: its table of commands, help, messages and shell completion."""
