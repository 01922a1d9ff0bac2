"""OpenSearch and Elasticsearch: rows of all stores in one index for each length of vectors."""
