package regate.store

# METADATA
# title: The vector engine of a new store
# description: |
#   Its configured name, where operators give the tenant one. Undefined where nothing is said: then the configuration decides. A store stays
#   where it was made.
# entrypoint: true
# schemas:
#   - data.regate.placement: schema.operators.placement
# custom:
#   code: store_placement
placement := data.regate.placement[input.principal.tenant] if {
	input.action == "store.create"
	allow
}
