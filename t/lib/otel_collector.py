"""Receives spans by OTLP over gRPC on 127.0.0.1, and appends a JSON line for each span to a file.

Arguments: port, file. Needs the packages grpcio and opentelemetry-proto.
"""

import concurrent.futures
import json
import sys

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, path):
        self.path = path

    def Export(self, request, context):
        with open(self.path, "a", encoding="utf-8") as out:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        attributes = {
                            one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
                            for one in span.attributes
                        }
                        out.write(json.dumps({"name": span.name, "attributes": attributes}, default=str) + "\n")
        return trace_service_pb2.ExportTraceServiceResponse()


def main():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(sys.argv[2]), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


main()
