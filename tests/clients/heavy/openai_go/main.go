// openai for Go, unmodified: each scene prints one line of JSON, `{scene, result}` or `{scene, error}`. Run by test_openai_go.py.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

const model = "small"

func asked(text string) responses.ResponseNewParams {
	return responses.ResponseNewParams{
		Model: model,
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(text)},
	}
}

func thinking(text string) responses.ResponseNewParams {
	params := asked(text)
	params.Reasoning = shared.ReasoningParam{Effort: shared.ReasoningEffortLow}
	return params
}

// told reads a stream to its end and returns the text of its deltas and the shape of the last response.
func told(stream *ssestream.Stream[responses.ResponseStreamEventUnion]) (map[string]any, error) {
	text, id, shape := "", "", []string{}
	for stream.Next() {
		event := stream.Current()
		switch event.Type {
		case "response.output_text.delta":
			text += event.AsResponseOutputTextDelta().Delta
		case "response.completed":
			response := event.AsResponseCompleted().Response
			id = response.ID
			for _, item := range response.Output {
				shape = append(shape, item.Type)
			}
		}
	}
	return map[string]any{"text": text, "shape": shape, "id": id != ""}, stream.Err()
}

func main() {
	ctx := context.Background()
	client := openai.NewClient(option.WithMaxRetries(0))
	scenes := []struct {
		name string
		play func() (any, error)
	}{
		{"text", func() (any, error) {
			response, err := client.Responses.New(ctx, asked("Hello there"))
			if err != nil {
				return nil, err
			}
			return response.OutputText(), nil
		}},
		{"streamed", func() (any, error) { return told(client.Responses.NewStreaming(ctx, thinking("Hello there"))) }},
		{"streamedAgain", func() (any, error) {
			first, err := client.Responses.New(ctx, asked("Hello there"))
			if err != nil {
				return nil, err
			}
			return told(client.Responses.GetStreaming(ctx, first.ID, responses.ResponseGetParams{}))
		}},
		{"previous", func() (any, error) {
			first, err := client.Responses.New(ctx, asked("My name is Alice."))
			if err != nil {
				return nil, err
			}
			next := asked("What is my name?")
			next.PreviousResponseID = openai.String(first.ID)
			response, err := client.Responses.New(ctx, next)
			if err != nil {
				return nil, err
			}
			return response.OutputText(), nil
		}},
		{"called", func() (any, error) {
			params := asked("What is the weather in Paris?")
			params.Tools = []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{
				Name:        "get_weather",
				Description: openai.String("Tell the weather of a city"),
				Parameters:  map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}},
				Strict:      param.NewOpt(false),
			}}}
			response, err := client.Responses.New(ctx, params)
			if err != nil {
				return nil, err
			}
			return response.Output[len(response.Output)-1].AsFunctionCall().Arguments, nil
		}},
		{"unknownPrevious", func() (any, error) {
			params := asked("Hello there")
			params.PreviousResponseID = openai.String("resp_none")
			_, err := client.Responses.New(ctx, params)
			var refused *openai.Error
			if !errors.As(err, &refused) {
				return nil, err
			}
			return []any{refused.StatusCode, refused.Code}, nil
		}},
		{"chat", func() (any, error) {
			params := openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello there")}}
			stream := client.Chat.Completions.NewStreaming(ctx, params)
			answer := openai.ChatCompletionAccumulator{}
			for stream.Next() {
				answer.AddChunk(stream.Current())
			}
			if stream.Err() != nil {
				return nil, stream.Err()
			}
			return answer.Choices[0].Message.Content, nil
		}},
	}
	lines := json.NewEncoder(os.Stdout)
	for _, scene := range scenes {
		result, err := scene.play()
		if err != nil {
			_ = lines.Encode(map[string]any{"scene": scene.name, "error": err.Error()})
			continue
		}
		_ = lines.Encode(map[string]any{"scene": scene.name, "result": result})
	}
}
