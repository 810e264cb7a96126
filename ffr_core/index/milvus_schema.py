"""Collections and fields in Milvus, and the one place where Lite and a server differ.

Three kinds of collections:

    headers    one row a dialogue, written last, and one row `meta:...` a tenant
    fragments  one row a fragment
    passages   one row a passage, with its fragment's filter fields

BM25 counts the words of `tokenize`: rows hold them joined by spaces and Milvus only splits at the
spaces. So one analyzer serves Chinese and English, alone or mixed, and every index gives the same
scores. Measured as BM25 over fragments, Recall@1 / @5 in per cent, first 600 queries: friendsqa
45.5 / 69.3 (Milvus's english 46.5 / 72.3, jieba 44.7 / 69.2, chinese 43.5 / 67.5), locomo 62.3 /
85.2 (62.7 / 86.3, 62.5 / 85.0, 60.0 / 83.3), qmsum 33.3 / 55.5 (29.3 / 53.2, 32.8 / 54.8, 32.7 /
53.5), vcsum_zh 79.7 / 95.5 (14.3 / 14.3, 79.4 / 94.8, 79.7 / 95.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ffr_core.index.keys import tenant_key

HEADERS, FRAGMENTS, PASSAGES = "headers", "fragments", "passages"
HEADER_FIELDS = [
    "dialogue_id",
    "fingerprint",
    "revision",
    "num_fragments",
    "num_passages",
    "payload",
    "deleted",
]
NO_VECTOR = [0.0, 0.0]
"""Milvus wants a vector in every collection; headers have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a tenant's rows are."""

    prefix: str
    """Start of every collection name."""
    shared: bool
    """One set of collections for all tenants (a server), or one set a tenant (Lite)."""
    partition_key: bool
    """Tenants are spread over partitions. On Lite every filter fails beside a partition key."""
    vector_index: str
    """FLAT on Lite, AUTOINDEX on a server."""

    def collection(self, kind: str, tenant: str) -> str:
        """Name of the collection that holds one kind of a tenant's rows."""
        return self.collection_of_key(kind, tenant_key(tenant))

    def collection_of_key(self, kind: str, tenant: str) -> str:
        """As `collection`, from a tenant's key instead of its name."""
        return f"{self.prefix}_{kind}" if self.shared else f"{self.prefix}_{tenant}_{kind}"

    def scope(self, tenant: str) -> str:
        """Expression that selects the tenant's rows in its collections; empty: all are its."""
        return f'tenant == "{tenant_key(tenant)}"' if self.shared else ""


def layout_for(is_lite: bool, prefix: str) -> Layout:
    """The one place where Lite and a server differ."""
    return Layout(
        prefix=prefix,
        shared=not is_lite,
        partition_key=not is_lite,
        vector_index="FLAT" if is_lite else "AUTOINDEX",
    )


def build_schema(kind: str, layout: Layout, dim: int, k1: float, b: float) -> tuple[Any, Any]:
    """Schema and index parameters of one kind of collection.

    Args:
        kind: HEADERS, FRAGMENTS or PASSAGES.
        layout: Lite or server.
        dim: D.
        k1: BM25 saturation.
        b: BM25 length normalization.
    """
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=128)
    schema.add_field(
        "tenant", DataType.VARCHAR, max_length=32, is_partition_key=layout.partition_key
    )
    schema.add_field("revision", DataType.INT64)
    indexes = MilvusClient.prepare_index_params()
    if kind == HEADERS:
        _add_header_fields(schema)
        indexes.add_index("vector", index_type="FLAT", metric_type="IP")
    else:
        _add_row_fields(schema, kind, dim)
        indexes.add_index("vector", index_type=layout.vector_index, metric_type="IP")
        indexes.add_index(
            "words",
            index_type="SPARSE_INVERTED_INDEX",
            metric_type="BM25",
            params={"bm25_k1": k1, "bm25_b": b},
        )
        if layout.shared and layout.partition_key:
            indexes.add_index("dialogue_key", index_type="INVERTED")
    return schema, indexes


def _add_header_fields(schema: Any) -> None:
    from pymilvus import DataType

    schema.add_field("dialogue_id", DataType.VARCHAR, max_length=1024)
    schema.add_field("fingerprint", DataType.VARCHAR, max_length=4096)
    schema.add_field("num_fragments", DataType.INT64)
    schema.add_field("num_passages", DataType.INT64)
    schema.add_field("payload", DataType.VARCHAR, max_length=128)
    schema.add_field("deleted", DataType.BOOL)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=len(NO_VECTOR))


def _add_row_fields(schema: Any, kind: str, dim: int) -> None:
    from pymilvus import DataType, Function, FunctionType

    schema.add_field("dialogue_key", DataType.VARCHAR, max_length=32)
    schema.add_field("turn_ids", DataType.VARCHAR, max_length=65_535)
    if kind == FRAGMENTS:
        schema.add_field("fragment_id", DataType.INT64)
        schema.add_field("num_passages", DataType.INT64)
    else:
        schema.add_field("fragment_key", DataType.VARCHAR, max_length=64)
    schema.add_field(
        "participants",
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        max_capacity=4096,
        max_length=512,
    )
    schema.add_field("min_ms", DataType.INT64)
    schema.add_field("max_ms", DataType.INT64)
    schema.add_field("has_image", DataType.BOOL)
    schema.add_field(
        "text",
        DataType.VARCHAR,
        max_length=65_535,
        enable_analyzer=True,
        analyzer_params={"tokenizer": "whitespace"},
    )
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(
        Function(
            name="bm25",
            function_type=FunctionType.BM25,
            input_field_names=["text"],
            output_field_names=["words"],
        )
    )
