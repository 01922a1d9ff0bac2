import com.fasterxml.jackson.databind.ObjectMapper;
import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.core.http.StreamResponse;
import com.openai.errors.OpenAIServiceException;
import com.openai.helpers.ChatCompletionAccumulator;
import com.openai.models.Reasoning;
import com.openai.models.ReasoningEffort;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.responses.FunctionTool;
import com.openai.models.responses.Response;
import com.openai.models.responses.ResponseCreateParams;
import com.openai.models.responses.ResponseOutputItem;
import com.openai.models.responses.ResponseStreamEvent;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;

/** openai for Java, unmodified: each scene prints one line of JSON, {@code {scene, result}} or {@code {scene, error}}. Run by test_openai_java.py. */
public final class Scenes {
    private static final OpenAIClient CLIENT = OpenAIOkHttpClient.builder().fromEnv().maxRetries(0).build();
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Map<String, Callable<Object>> scenes = new LinkedHashMap<>();
        scenes.put("text", () -> textOf(CLIENT.responses().create(asked("Hello there").build())));
        scenes.put("streamed", Scenes::streamed);
        scenes.put("previous", Scenes::previous);
        scenes.put("called", Scenes::called);
        scenes.put("unknownPrevious", Scenes::unknownPrevious);
        scenes.put("chat", Scenes::chat);
        scenes.put("httpClientOfTheJdk", Scenes::httpClientOfTheJdk);
        for (Map.Entry<String, Callable<Object>> scene : scenes.entrySet()) {
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("scene", scene.getKey());
            try {
                line.put("result", scene.getValue().call());
            } catch (Exception error) {
                line.put("error", error.toString());
            }
            System.out.println(JSON.writeValueAsString(line));
        }
        System.exit(0); // the client's threads would keep the process for a minute
    }

    private static ResponseCreateParams.Builder asked(String text) {
        return ResponseCreateParams.builder().model("small").input(text);
    }

    private static String textOf(Response response) {
        return response.output().stream()
                .flatMap(item -> item.message().stream())
                .flatMap(message -> message.content().stream())
                .flatMap(content -> content.outputText().stream())
                .map(text -> text.text())
                .collect(Collectors.joining());
    }

    private static Object streamed() {
        StringBuilder text = new StringBuilder();
        List<String> shape = new ArrayList<>();
        ResponseCreateParams params = asked("Hello there")
                .reasoning(Reasoning.builder().effort(ReasoningEffort.LOW).build())
                .build();
        try (StreamResponse<ResponseStreamEvent> stream = CLIENT.responses().createStreaming(params)) {
            stream.stream().forEach(event -> {
                event.outputTextDelta().ifPresent(delta -> text.append(delta.delta()));
                event.completed().ifPresent(completed -> completed.response().output().forEach(item -> shape.add(kindOf(item))));
            });
        }
        return Map.of("text", text.toString(), "shape", shape);
    }

    private static String kindOf(ResponseOutputItem item) {
        return item.isReasoning() ? "reasoning" : item.isMessage() ? "message" : "other";
    }

    private static Object previous() {
        Response first = CLIENT.responses().create(asked("My name is Alice.").build());
        return textOf(CLIENT.responses().create(asked("What is my name?").previousResponseId(first.id()).build()));
    }

    private static Object called() {
        FunctionTool.Parameters parameters = FunctionTool.Parameters.builder()
                .putAdditionalProperty("type", JsonValue.from("object"))
                .putAdditionalProperty("properties", JsonValue.from(Map.of("city", Map.of("type", "string"))))
                .build();
        FunctionTool tool = FunctionTool.builder()
                .name("get_weather")
                .description("Tell the weather of a city")
                .parameters(parameters)
                .strict(false)
                .build();
        Response response = CLIENT.responses().create(asked("What is the weather in Paris?").addTool(tool).build());
        return response.output().stream()
                .flatMap(item -> item.functionCall().stream())
                .map(call -> call.arguments())
                .collect(Collectors.joining());
    }

    private static Object unknownPrevious() {
        try {
            return CLIENT.responses().create(asked("Hello there").previousResponseId("resp_none").build()).id();
        } catch (OpenAIServiceException refused) {
            return List.of(refused.statusCode(), refused.code().orElse(""));
        }
    }

    private static Object chat() {
        ChatCompletionAccumulator answer = ChatCompletionAccumulator.create();
        ChatCompletionCreateParams params = ChatCompletionCreateParams.builder().model("small").addUserMessage("Hello there").build();
        try (StreamResponse<ChatCompletionChunk> stream = CLIENT.chat().completions().createStreaming(params)) {
            stream.stream().forEach(answer::accumulate);
        }
        return answer.chatCompletion().choices().get(0).message().content().orElse("");
    }

    /** The JDK's own client offers an upgrade to HTTP/2 with each request, whose body must be read nevertheless (RFC 9110, section 7.8). */
    private static Object httpClientOfTheJdk() throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("OPENAI_BASE_URL") + "/responses"))
                .header("Authorization", "Bearer " + System.getenv("OPENAI_API_KEY"))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString("{\"model\": \"small\", \"input\": \"Hello there\"}"))
                .build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        return List.of(answer.statusCode(), JSON.readTree(answer.body()).at("/output/0/content/0/text").asText());
    }
}
