"""Words beside vectors: a search by words for engines that have none of their own."""
