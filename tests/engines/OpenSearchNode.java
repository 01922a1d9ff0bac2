import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One node of OpenSearch with the k-NN plugin, on a loopback port: `OpenSearchNode FOLDER PORT`. */
public class OpenSearchNode {
    public static void main(String[] arguments) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("http.port", arguments[1]);
            settings.put("http.host", "127.0.0.1");
            settings.put("transport.host", "127.0.0.1");
            settings.put("transport.port", "0");
            settings.put("discovery.type", "single-node");
            settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
        });
        runner.build("-numOfNode", "1", "-basePath", arguments[0], "-clusterName", "tests",
            "-pluginTypes", "org.opensearch.knn.plugin.KNNPlugin");
        Thread.currentThread().join();
    }
}
