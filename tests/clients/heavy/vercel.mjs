// The Vercel AI SDK, unmodified: each scene prints one line of JSON, `{scene, result}` or `{scene, error}`. Run by test_vercel.py.
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
const model = openai("small");
const tools = {
  get_weather: tool({
    description: "Tell the weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `${city} is sunny`,
  }),
};
const weather = { model, prompt: "What is the weather in Paris?", tools, stopWhen: stepCountIs(3), maxRetries: 0 };
const failing = { onError: ({ error }) => { throw error; } };

const scenes = {
  text: async () => (await generateText({ model, system: "Be brief.", prompt: "Hello there" })).text,
  streamed: async () => {
    const answer = streamText({ model, prompt: "Count from 1 to 20", ...failing });
    const pieces = [];
    for await (const piece of answer.textStream) pieces.push(piece);
    return { pieces, tokens: (await answer.usage).totalTokens };
  },
  tool: async () => {
    const answer = await generateText(weather);
    return { text: answer.text, steps: answer.steps.length };
  },
  streamedTool: async () => {
    const answer = streamText({ ...weather, ...failing });
    return { text: await answer.text, steps: (await answer.steps).length };
  },
  object: async () => (await generateObject({ model, schema: z.object({ city: z.string() }), prompt: "I live in Paris" })).object,
  turns: async () => {
    const asked = [{ role: "user", content: "My name is Alice." }];
    const first = await generateText({ model, messages: asked });
    return (await generateText({ model, messages: [...asked, ...first.response.messages, { role: "user", content: "What is my name?" }] })).text;
  },
  turnsNotStored: async () => {
    const providerOptions = { openai: { store: false } };
    const asked = [{ role: "user", content: "My name is Alice." }];
    const first = await generateText({ model, messages: asked, providerOptions });
    const messages = [...asked, ...first.response.messages, { role: "user", content: "What is my name?" }];
    return (await generateText({ model, messages, providerOptions })).text;
  },
  turnsAfterTool: async () => {
    const asked = [{ role: "user", content: "My name is Alice. What is the weather in Paris?" }];
    const first = await generateText({ model, messages: asked, tools, stopWhen: stepCountIs(3) });
    const messages = [...asked, ...first.response.messages, { role: "user", content: "What is my name?" }];
    return (await generateText({ model, messages, tools })).text;
  },
  previous: async () => {
    const first = await generateText({ model, prompt: "My name is Alice." });
    const providerOptions = { openai: { previousResponseId: first.providerMetadata.openai.responseId } };
    return (await generateText({ model, prompt: "What is my name?", providerOptions })).text;
  },
  fileSearch: async () => {
    const file_search = openai.tools.fileSearch({ vectorStoreIds: [process.env.STORE] });
    const answer = await generateText({ model, prompt: "Use file_search for the lighthouse.", tools: { file_search } });
    return { text: answer.text, sources: [...new Set(answer.sources.map((source) => source.filename ?? source.title))] };
  },
  reasoning: async () => {
    const providerOptions = { openai: { reasoningEffort: "low", reasoningSummary: "auto", forceReasoning: true } };
    return (await generateText({ model, prompt: "Hello there", providerOptions })).text;
  },
  image: async () => {
    const image = Buffer.from(process.env.PICTURE, "base64");
    const content = [{ type: "text", text: "What do you see?" }, { type: "image", image, mediaType: "image/png" }];
    return (await generateText({ model, messages: [{ role: "user", content }] })).text;
  },
  document: async () => {
    const data = Buffer.from(process.env.DOCUMENT, "base64");
    const content = [{ type: "text", text: "What is said?" }, { type: "file", data, mediaType: "application/pdf", filename: "lamp.pdf" }];
    return (await generateText({ model, messages: [{ role: "user", content }] })).text;
  },
  chat: async () => (await generateText({ ...weather, model: openai.chat("small") })).text,
  embeddings: async () => (await embedMany({ model: openai.embedding("small"), values: ["one", "two"] })).embeddings,
};

for (const [scene, play] of Object.entries(scenes)) {
  try {
    console.log(JSON.stringify({ scene, result: await play() }));
  } catch (error) {
    console.log(JSON.stringify({ scene, error: `${error.message} ${error.responseBody ?? ""}` }));
  }
}
