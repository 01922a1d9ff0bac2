"""Elasticsearch's words on OpenSearch, for want of an Elasticsearch that registries carry: requests go to a
real OpenSearch, with the two things translated that both say differently. Anything else that Elasticsearch
alone would refuse is not noticed.
"""

from __future__ import annotations

import http.client
import json
import re
from typing import Final
from urllib.parse import urlsplit

_SCRIPT: Final = "Math.max(0.0, dotProduct(params.query, 'vector') + 1.0)"


def translated(path: str, body: bytes) -> bytes:
    """Return the body in OpenSearch's words. Raises `KeyError` or `AssertionError` for what Elasticsearch
    would not be told so.
    """
    if re.fullmatch(r"/[a-z-]+-rows-\d+-1", path):
        document = json.loads(body)
        field = document["mappings"]["properties"]["vector"]
        assert set(field) == {"type", "dims", "index"}
        assert (field["type"], field["index"]) == ("dense_vector", False)
        document["mappings"]["properties"]["vector"] = {"type": "knn_vector", "dimension": field["dims"]}
        return json.dumps(document).encode()
    if "/_search" in path and b"script_score" in body:
        document = json.loads(body)
        script = document["query"]["script_score"]["script"]
        assert (script["lang"], script["source"]) == ("painless", _SCRIPT)
        parameters = {
            "field": "vector",
            "query_value": script["params"]["query"],
            "space_type": "innerproduct",
        }
        document["query"]["script_score"]["script"] = {
            "lang": "knn",
            "source": "knn_score",
            "params": parameters,
        }
        return json.dumps(document).encode()
    return body


def forwarded(url: str, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Return what the OpenSearch at the URL answers to a request in Elasticsearch's words."""
    if (method, path) == ("GET", "/"):
        return 200, b'{"version": {"number": "9.5.3", "build_flavor": "default"}}'
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        said = translated(path, body)
        connection.request(method, path, said or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, _answered(path, answer.read())
    finally:
        connection.close()


def _answered(path: str, body: bytes) -> bytes:
    """Return an answer in Elasticsearch's words: a mapping names the vector's field as it was made."""
    if not path.endswith("/_mapping"):
        return body
    found = json.loads(body)
    for index in found.values():
        fields = index["mappings"].get("properties", {})
        if "vector" in fields:
            fields["vector"] = {"type": "dense_vector", "dims": fields["vector"]["dimension"]}
    return json.dumps(found).encode()
