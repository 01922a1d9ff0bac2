# METADATA
# title: Chunks, as this team decides
# description: |
#   The shipped rule consults `deny` and `grant` here, both optional. `deny` denies whatever else is said; `grant` shares within the tenant.
#   They are part of the filter inside the search, so they compare fields with known values and negate named rules only.
# scope: package
# schemas:
#   - input: schema.input.chunk
#   - input.principal: schema.input.principal
#   - input.chunk: schema.chunk
package regate.custom.chunk

# METADATA
# title: Contractors read level 0 only
# description: Whatever is shared with a contractor.
deny if {
	"contractor" in input.principal.roles
	input.chunk.level > 0
}
