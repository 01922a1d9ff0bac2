// openai for Node, unmodified: its helpers put streams together themselves. Each scene prints one line of JSON, `{scene, result}` or
// `{scene, error}`. Run by test_openai_node.py.
import OpenAI from "openai";
import { zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const openai = new OpenAI({ maxRetries: 0 });
const model = "small";
const City = z.object({ city: z.string() });
const weather = zodResponsesFunction({ name: "get_weather", description: "Tell the weather of a city", parameters: City });
const shape = (response) => response.output.map((item) => item.type);
const reasoned = (response) => response.output.filter((item) => item.type === "reasoning");

const scenes = {
  text: async () => (await openai.responses.stream({ model, input: "Hello there" }).finalResponse()).output_text,
  reasoning: async () => {
    const response = await openai.responses.stream({ model, input: "Hello there", reasoning: { effort: "low" } }).finalResponse();
    return { shape: shape(response), thought: reasoned(response)[0].content[0].text, text: response.output_text };
  },
  summary: async () => {
    const reasoning = { effort: "low", summary: "auto" };
    const response = await openai.responses.stream({ model, input: "Hello there", reasoning }).finalResponse();
    return { shape: shape(response), thought: reasoned(response)[0].summary[0].text, text: response.output_text };
  },
  toldAgain: async () => {
    const made = await openai.responses.create({ model, input: "Hello there", reasoning: { effort: "low" } });
    const response = await openai.responses.stream({ response_id: made.id }).finalResponse();
    return { shape: shape(response), thought: reasoned(response)[0].content[0].text, text: response.output_text };
  },
  background: async () => {
    const asked = { model, input: "Hello there", reasoning: { effort: "low" }, background: true, stream: true };
    let id;
    for await (const event of await openai.responses.create(asked)) id ??= event.response?.id;
    return shape(await openai.responses.stream({ response_id: id, starting_after: 0 }).finalResponse());
  },
  parsed: async () => {
    const text = { format: zodTextFormat(City, "place") };
    return (await openai.responses.stream({ model, input: "I live in Paris", text }).finalResponse()).output_parsed;
  },
  called: async () => {
    const response = await openai.responses.stream({ model, input: "What is the weather in Paris?", tools: [weather] }).finalResponse();
    return { shape: shape(response), city: response.output.at(-1).parsed_arguments.city };
  },
  answered: async () => {
    const first = await openai.responses.parse({ model, input: "What is the weather in Paris?", tools: [weather] });
    const { call_id } = first.output.at(-1);
    const input = [{ type: "function_call_output", call_id, output: "Paris is sunny" }];
    return (await openai.responses.create({ model, previous_response_id: first.id, input, tools: [weather] })).output_text;
  },
  events: async () => {
    const heard = [];
    const stream = openai.responses.stream({ model, input: "Count from 1 to 5" });
    stream.on("response.output_text.delta", (event) => heard.push(event.snapshot));
    const { output_text } = await stream.finalResponse();
    return heard.at(-1) === output_text && heard.length > 1;
  },
  chat: async () => {
    const messages = [{ role: "user", content: "Hello there" }];
    return (await openai.chat.completions.stream({ model, messages }).finalChatCompletion()).choices[0].message.content;
  },
  chatTool: async () => {
    const run = async ({ city }) => `${city} is sunny`;
    const fn = { name: "get_weather", description: "Tell the weather of a city", parameters: { type: "object", properties: { city: { type: "string" } } }, parse: JSON.parse, function: run };
    const messages = [{ role: "user", content: "What is the weather in Paris?" }];
    return openai.chat.completions.runTools({ model, messages, stream: true, tools: [{ type: "function", function: fn }] }).finalContent();
  },
  chatParsed: async () => {
    const asked = { model, messages: [{ role: "user", content: "I live in Paris" }], response_format: zodResponseFormat(City, "place") };
    return (await openai.chat.completions.parse(asked)).choices[0].message.parsed;
  },
};

for (const [scene, play] of Object.entries(scenes)) {
  try {
    console.log(JSON.stringify({ scene, result: await play() }));
  } catch (error) {
    console.log(JSON.stringify({ scene, error: `${error}` }));
  }
}
