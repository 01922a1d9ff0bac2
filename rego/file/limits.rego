package regate.file

import data.regate.lib.limits as limit_numbers

# METADATA
# title: The limits of an upload
# description: |
#   How many bytes the caller's next file may have, and how many files and bytes the caller may have in all; 0 is nothing at all. Defined only
#   where an upload is allowed.
# entrypoint: true
# schemas:
#   - data.regate.file_limits: schema.operators.file_limits
# custom:
#   code: file_limits
limits := said_limits if {
	input.action == "file.upload"
	allow
}

# METADATA
# title: What is said
# description: Those of the three numbers that operators say for the caller. Without one of them nothing may be uploaded.
# schemas:
#   - data.regate.file_limits: schema.operators.file_limits
said_limits := limit_numbers.said(data.regate.file_limits, limit_names, input.principal)

# METADATA
# title: The names of the limits
# description: All must be said.
limit_names := {"max_bytes", "max_files", "max_total_bytes"}
