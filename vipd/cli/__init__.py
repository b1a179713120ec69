"""The commands: one file each, without logic of their own.  A command's module is imported only when it is used."""
